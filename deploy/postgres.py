"""Postgres in one folder, on a Unix socket that only the user who started it may use."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import DidNotStart, FolderUnusable, last_lines
from deploy.postgres_binaries import account_for, postgres_binaries
from deploy.postgres_cluster import SUPERUSER, Cluster
from deploy.process import POLL_SECONDS, Account, Process, end_orphan, is_alive, read_pid
from deploy.server import START_SECONDS_MAX, STOP_SECONDS_MAX, Server

SHARED = Path("/var/lib/callboard")
DATABASE = "postgres"
INITDB_SECONDS_MAX = 60.0
STATUS_LINE = 7  # of postmaster.pid, from 0

INITDB = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=reject",
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
        """Not `durable` is for throw-away data: nothing waits for the disk.

        `shared` is where root keeps a copy of the binaries, when theirs is a place that other accounts cannot reach.
        """
        super().__init__(folder)
        self._cluster = Cluster(self._folder)
        self._durable = durable
        self._shared = shared

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The DSN of another database on this server; it holds from the first start on."""
        return self._cluster.url(database)

    @property
    def log_path(self) -> Path:
        return self._folder / "postgres.log"

    async def start(self) -> None:
        if self.is_running:
            return
        account = account_for(self._cluster.data)
        binaries = postgres_binaries(self._shared, account)
        try:
            self._cluster.open()
            if not self._cluster.is_whole:
                await self._initialize(binaries, account)
            await self._end_orphan()
            self._cluster.write_access_rules()
        except OSError as error:
            raise FolderUnusable(self._folder, f"{error.strerror or error} ({error.filename})") from error
        self._process = await self._started(binaries, account)

    def _let_go(self) -> None:
        self._cluster.close()
        super()._let_go()

    async def _initialize(self, binaries: Path, account: Account | None) -> None:
        self._cluster.make_empty(account)
        process = self._run([str(binaries / "initdb"), "-D", self._cluster.data_from_inside, *INITDB], account)
        try:
            if not await process.has_ended(within_seconds=INITDB_SECONDS_MAX):
                raise DidNotStart(self.name, f"made no database within {INITDB_SECONDS_MAX:.0f} s", self.log_path)
        finally:
            process.kill_all()  # initdb's own children would go on writing into a folder that is being taken away
        if process.exit_code != 0:
            raise DidNotStart(self.name, "could not make its database", self.log_path)
        self._cluster.mark_whole()

    async def _end_orphan(self) -> None:
        """Of a launcher that was killed. Postgres would take a stranger who has the number by now for its own kind."""
        pid = read_pid(self._cluster.pid_file)
        if pid is not None:
            flag = f"--cluster_name={self._cluster.name}"
            await end_orphan(pid, argument=flag, stop_signal=signal.SIGINT, within_seconds=STOP_SECONDS_MAX)
            if is_alive(pid):
                self._cluster.pid_file.unlink(missing_ok=True)
        self._cluster.clear_socket()

    async def _started(self, binaries: Path, account: Account | None) -> Process:
        settings = {"cluster_name": self._cluster.name, "unix_socket_directories": self._cluster.socket_from_inside}
        settings |= SETTINGS | ({} if self._durable else NOT_DURABLE)
        flags = [f"--{name}={value}" for name, value in settings.items()]
        argv = [str(binaries / "postgres"), "-D", self._cluster.data_from_inside, *flags]
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        while True:
            process = self._run(argv, account)
            try:
                if await self._became_ready(process, deadline):
                    return process
            except BaseException:
                process.kill()
                raise
            await asyncio.sleep(POLL_SECONDS)

    async def _became_ready(self, process: Process, deadline: float) -> bool:
        """False when backends of a killed predecessor are still on their way out: another try is due."""
        while not _says_ready(self._cluster.pid_file, process.pid):
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
            return Process(
                argv,
                log_path=self.log_path,
                on_parent_death=signal.SIGINT,
                account=account,
                folder=self._cluster.data,
            )
        except OSError as error:
            raise DidNotStart(self.name, f"cannot be run from {argv[0]} ({error})", self.log_path) from error


def _says_ready(pid_file: Path, pid: int) -> bool:
    """Postgres keeps its state on a line of its own in this file; pg_ctl waits in the same way."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) > STATUS_LINE and lines[0].strip() == str(pid) and lines[STATUS_LINE].strip() == "ready"
