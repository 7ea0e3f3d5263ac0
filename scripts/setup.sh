#!/bin/sh
# Makes .venv from requirements.lock and installs callboard into it, editable. Needs Python 3.11 or newer with venv
# and pip, or uv. Running it again costs milliseconds: a stamp remembers what the environment was made from.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
venv=$here/.venv
stamp=$venv/.callboard-setup

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

wanted=$(printf '%s\n' "$here" && cat requirements.lock pyproject.toml scripts/setup.sh | cksum)
if [ -x "$venv/bin/callboard" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if is_new_enough "$candidate"; then python=$candidate; break; fi
done
uv=$(command -v uv || true)
[ -n "$python" ] || die "Python 3.11 or newer is needed, and ${PYTHON:-PATH} has none. Install it (Debian, Ubuntu: apt-get install python3 python3-venv;" \
    "Fedora: dnf install python3.11; macOS: brew install python@3.12) or name one: make setup PYTHON=/path/to/python3"
[ -n "$uv" ] || "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    die "$python has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv) or install uv."

# A user without a writable home has no cache folder, and needs none.
[ -w "${HOME:-/nonexistent}" ] || export UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy

# An environment made by another Python, or moved here from another folder, has the wrong paths inside.
if ! is_new_enough "$venv/bin/python" || { [ -e "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$here" ]; }; then
    rm -rf "$venv"
fi
rm -f "$stamp"

say "installing the locked packages into .venv ..."
if [ -n "$uv" ]; then
    [ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
    [ -x "$venv/bin/pip" ] || "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --require-hashes -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
fi
printf '%s\n' "$wanted" >"$stamp"
say "done: .venv/bin/callboard"
