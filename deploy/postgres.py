"""Postgres in one folder, on a Unix socket that only the user who started it may use."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import DidNotStart, last_lines
from deploy.postgres_binaries import account_for, postgres_binaries
from deploy.postgres_home import SUPERUSER, PostgresHome
from deploy.process import POLL_SECONDS, Account, Process, end_orphan, is_alive, read_pid
from deploy.server import START_SECONDS_MAX, STOP_SECONDS_MAX, Server

SHARED = Path("/var/lib/callboard")
DATABASE = "postgres"
INITDB_SECONDS_MAX = 60.0
STATUS_LINE = 7  # of postmaster.pid, from 0

INITDB = (
    "--username",
    SUPERUSER,
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres(Server):
    """`postgres.url` is the DSN of its one database. Restarted, it keeps socket and data."""

    name = "Postgres"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)

    def __init__(self, folder: Path, *, durable: bool = True, shared: Path = SHARED) -> None:
        """Not `durable` is for throw-away data: nothing waits for the disk. `shared` is where root's copies go."""
        super().__init__(folder)
        self._durable = durable
        self._shared = shared
        self._home: PostgresHome | None = None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The DSN of another database on this server. Raises ProcessLookupError when it was never started."""
        if self._home is None:
            raise ProcessLookupError("Postgres was not started")
        return self._home.url(database)

    @property
    def log_path(self) -> Path:
        return self._folder / "postgres.log"

    async def start(self) -> None:
        if self.is_running:
            return
        account = account_for(self._folder / "home" / "data")
        binaries = postgres_binaries(self._shared, account)
        if self._home is None:
            self._home = PostgresHome(self._folder, account=account, shared=self._shared, throwaway=not self._durable)
        if not self._home.is_initialized:
            await self._initialize(self._home, binaries, account)
        await self._end_orphan(self._home)
        self._process = await self._started(self._home, binaries, account)

    def _let_go(self) -> None:
        if self._home is not None:
            self._home.close()
            self._home = None
        super()._let_go()

    async def _initialize(self, home: PostgresHome, binaries: Path, account: Account | None) -> None:
        home.make_empty_data()
        process = self._run([str(binaries / "initdb"), "--pgdata", str(home.data), *INITDB], account)
        try:
            if not await process.has_ended(within_seconds=INITDB_SECONDS_MAX):
                raise DidNotStart(self.name, f"made no database within {INITDB_SECONDS_MAX:.0f} s", self.log_path)
        finally:
            process.kill()
        if process.exit_code != 0:
            raise DidNotStart(self.name, "could not make its database", self.log_path)
        home.mark_initialized()

    async def _end_orphan(self, home: PostgresHome) -> None:
        """Of a launcher that was killed. Postgres would take a stranger who has the number by now for its own kind."""
        pid_file = home.data / "postmaster.pid"
        pid = read_pid(pid_file)
        if pid is not None:
            await end_orphan(pid, argument=str(home.data), stop_signal=signal.SIGINT, within_seconds=STOP_SECONDS_MAX)
            if is_alive(pid):
                pid_file.unlink(missing_ok=True)
        home.clear_socket()

    async def _started(self, home: PostgresHome, binaries: Path, account: Account | None) -> Process:
        settings = SETTINGS | ({} if self._durable else NOT_DURABLE)
        settings |= {"unix_socket_directories": str(home.socket)}
        settings |= {"hba_file": str(home.hba_file), "ident_file": str(home.ident_file)}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        argv = [str(binaries / "postgres"), "-D", str(home.data), *flags]
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        while True:
            process = self._run(argv, account)
            try:
                if await self._became_ready(home, process, deadline):
                    return process
            except BaseException:
                process.kill()
                raise
            await asyncio.sleep(POLL_SECONDS)

    async def _became_ready(self, home: PostgresHome, process: Process, deadline: float) -> bool:
        """False when backends of a killed predecessor are still on their way out: another try is due."""
        while not _says_ready(home.data / "postmaster.pid", process.pid):
            is_late = asyncio.get_running_loop().time() > deadline
            if not process.is_running:
                if "still in use" in "".join(last_lines(self.log_path)) and not is_late:
                    return False
                raise DidNotStart(self.name, f"ended with exit code {process.exit_code}", self.log_path)
            if is_late:
                raise DidNotStart(self.name, f"was not ready after {START_SECONDS_MAX:.0f} s", self.log_path)
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _run(self, argv: Sequence[str], account: Account | None) -> Process:
        try:
            return Process(argv, log_path=self.log_path, on_parent_death=signal.SIGINT, account=account)
        except OSError as error:
            raise DidNotStart(self.name, f"cannot be run from {argv[0]} ({error})", self.log_path) from error


def _says_ready(pid_file: Path, pid: int) -> bool:
    """Postgres keeps its state on a line of its own in this file; pg_ctl waits in the same way."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) > STATUS_LINE and lines[0].strip() == str(pid) and lines[STATUS_LINE].strip() == "ready"
