"""The folder of one embedded Postgres, and who may connect to it.

    <folder>/data          the cluster with its Unix socket, owned by the account it runs as; it listens on nothing else
    <folder>/initialized   the cluster is whole: initdb went to its end

The folders above may be closed to that account: Postgres is started inside `data` and calls it by the one name that
needs no way there. Only the user who starts it is let in, by the kernel's word (`peer`).
"""

import hashlib
import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from deploy.process import Account

SUPERUSER = "callboard"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 103  # macOS; Linux has 107
SHORT_ROOTS = ("/tmp", "/var/tmp")  # noqa: S108 -- a folder of our own is made in it


def short_folder(roots: Sequence[str]) -> Path:
    """Make a folder in the first of `roots` in which the path of a socket is short enough: TMPDIR itself may be deep.

    Raises OSError.
    """
    for root in roots:
        made = Path(tempfile.mkdtemp(prefix="callboard-", dir=root))
        if len(os.fsencode(made / "socket" / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX:
            return made
        made.rmdir()
    raise OSError(f"no folder is short enough for a socket: tried {', '.join(roots)}; set TMPDIR to a short path")


class Cluster:
    """Where things are. `close` takes away what `open` made outside of the folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._marker = folder / "initialized"
        self._short_way: Path | None = None

    @property
    def data_from_inside(self) -> str:
        """What a process started in the data folder calls it."""
        return "/proc/self/cwd" if sys.platform == "linux" else str(self.data)

    @property
    def socket_from_inside(self) -> str:
        return self.data_from_inside if sys.platform == "linux" else str(self._socket_folder)

    @property
    def _socket_folder(self) -> Path:
        return self._short_way / "socket" if self._short_way else self.data

    @property
    def name(self) -> str:
        """Told to Postgres, and so on its command line: by this an orphan is known."""
        return f"callboard-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def is_whole(self) -> bool:
        return self._marker.exists()

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(str(self._socket_folder), safe='/')}"

    def open(self) -> None:
        """Makes a short way to a socket whose path would be too long. Raises OSError."""
        if self._short_way is None and len(os.fsencode(self.data / SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
            self._short_way = short_folder((tempfile.gettempdir(), *SHORT_ROOTS))
            self._socket_folder.symlink_to(self.data)

    def make_empty(self, account: Account | None) -> None:
        """Takes away what a broken-off initdb left. Raises OSError."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        if account is not None:
            os.chown(self.data, account.uid, account.gid)

    def mark_whole(self) -> None:
        self._marker.touch()

    def clear_socket(self) -> None:
        """A socket left by a killed server names its process, whose number may be a stranger's by now."""
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (self.data / name).unlink(missing_ok=True)

    def write_access_rules(self) -> None:
        """Raises OSError."""
        caller = pwd.getpwuid(os.geteuid()).pw_name
        _write_new(self.data / "pg_hba.conf", "local all all peer map=launcher\n")
        _write_new(self.data / "pg_ident.conf", f'launcher "{caller}" {SUPERUSER}\n')

    def close(self) -> None:
        if self._short_way is not None:
            with suppress(FileNotFoundError):
                shutil.rmtree(self._short_way)
            self._short_way = None


def _write_new(path: Path, text: str) -> None:
    """The folder is another account's: were the old file written over, root could be led elsewhere by a link."""
    path.unlink(missing_ok=True)
    with path.open("x") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
