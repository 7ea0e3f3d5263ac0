"""The folder of one embedded Postgres, and who may connect to it.

    <home>/data                   the cluster, owned by the account it runs as
    <home>/socket                 the Unix socket; Postgres listens on nothing else
    <home>/hba.conf, ident.conf   only the user who started it is let in, by the kernel's word
    <home>/initialized            the cluster is whole: initdb went to its end

It is the folder `home` where the data was asked for. When root asks for a place that the lent account cannot reach,
`home` is a link into a folder shared by all of root's embedded servers: other folders' modes are never loosened.
"""

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from deploy.errors import FolderUnusable
from deploy.folder import FolderLock, is_open_to_all
from deploy.process import Account
from deploy.shared_homes import new_home

SUPERUSER = "callboard"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 103  # macOS; Linux has 107


class PostgresHome:
    """Made before the first start; `close` takes away what shall not outlive it."""

    def __init__(self, folder: Path, *, account: Account | None, shared: Path, throwaway: bool) -> None:
        """Raises FolderUnusable."""
        self._account = account
        self._link = folder / "home"
        self._throwaway = throwaway
        self._shared_lock: FolderLock | None = None
        try:
            self.path = self._place(shared / "homes")
            self.socket = self._make_socket_folder()
            self._write_access_rules()
        except OSError as error:
            raise FolderUnusable(folder, f"{error.strerror or error} ({error.filename})") from error

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def hba_file(self) -> Path:
        return self.path / "hba.conf"

    @property
    def ident_file(self) -> Path:
        return self.path / "ident.conf"

    @property
    def is_initialized(self) -> bool:
        return (self.path / "initialized").exists()

    def make_empty_data(self) -> None:
        """Takes away what a broken-off initdb left."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self._lend(self.data)

    def mark_initialized(self) -> None:
        (self.path / "initialized").touch()

    def clear_socket(self) -> None:
        """A socket left by a killed server names its process, whose number may be a stranger's by now."""
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (self.socket / name).unlink(missing_ok=True)

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={quote(str(self.socket), safe='/')}"

    def close(self) -> None:
        if self.socket.parent != self.path:
            shutil.rmtree(self.socket, ignore_errors=True)
        if self._throwaway and self._link.is_symlink():
            self._link.unlink()
            shutil.rmtree(self.path, ignore_errors=True)
        if self._shared_lock is not None:
            self._shared_lock.release()

    def _place(self, homes: Path) -> Path:
        if self._link.exists():
            return self._link.resolve()
        self._link.unlink(missing_ok=True)  # a link to a home on another machine, or to one cleared away
        if self._account is None or is_open_to_all(self._link.parent):
            self._link.mkdir()
            self._link.chmod(0o755 if self._account else 0o700)
            return self._link
        home, self._shared_lock = new_home(homes, throwaway=self._throwaway)
        self._link.symlink_to(home)
        return home

    def _make_socket_folder(self) -> Path:
        folder = self.path / "socket"
        if len(os.fsencode(folder / SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
            folder = Path(tempfile.mkdtemp(prefix="callboard-"))
        self._lend(folder)
        return folder

    def _lend(self, folder: Path) -> None:
        """Makes a folder that only the account, and root, may enter."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)

    def _write_access_rules(self) -> None:
        caller = pwd.getpwuid(os.geteuid()).pw_name
        rules = {
            self.hba_file: "local all all peer map=launcher\n",
            self.ident_file: f'launcher "{caller}" {SUPERUSER}\n',
        }
        for file, text in rules.items():
            file.unlink(missing_ok=True)  # it may be another launcher's
            file.write_text(text)
            file.chmod(0o644)
