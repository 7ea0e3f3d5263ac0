"""The embedded stack: nats-server and Postgres in one data folder, for one machine and for tests.

`up`, `demo` and the tests use it alike. A server of the operator's takes the place of either when its address is given.
"""

import asyncio
from collections import deque
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NoReturn, Self

import structlog

from deploy.errors import DidNotStart, KeepsDying
from deploy.folder import FolderLock
from deploy.nats_server import NatsServer
from deploy.postgres import Postgres
from deploy.server import Server

WATCH_SECONDS = 0.1
DEATHS_MAX = 5
DEATHS_WITHIN_SECONDS = 60.0

logger = structlog.get_logger()


class LocalStack:
    """`async with LocalStack(Path(".callboard")) as stack:` gives `stack.nats_url` and `stack.database_url`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        nats_url: str | None = None,
        database_url: str | None = None,
        nats_port: int = 0,
        nats_server_bin: Path | None = None,
        sync_always: bool = True,
        durable: bool = True,
    ) -> None:
        """Starts only what has no address yet. Data lies in `<data_dir>/nats` and `<data_dir>/postgres`, and stays.

        Not `durable` is for throw-away stacks: neither server waits for the disk.
        """
        self._lock = FolderLock(data_dir.absolute())
        self._nats_url = nats_url
        self._database_url = database_url
        sync_always = sync_always and durable
        self.nats = None
        self.postgres = None
        if nats_url is None:
            folder = data_dir / "nats"
            self.nats = NatsServer(folder, port=nats_port, binary=nats_server_bin, sync_always=sync_always)
        if database_url is None:
            self.postgres = Postgres(data_dir / "postgres", durable=durable)
        self._running = AsyncExitStack()

    @property
    def nats_url(self) -> str:
        return self.nats.url if self.nats else self._nats_url or ""

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres else self._database_url or ""

    @property
    def servers(self) -> tuple[Server, ...]:
        """Those that it started itself."""
        return tuple(server for server in (self.nats, self.postgres) if server is not None)

    async def __aenter__(self) -> Self:
        """Raises StackError, and leaves nothing running then."""
        async with AsyncExitStack() as starting:
            self._lock.take()
            starting.callback(self._lock.release)
            for server in self.servers:
                await starting.enter_async_context(server)
            self._running = starting.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def watch(self) -> NoReturn:
        """Starts a server again that ended by itself. Raises KeepsDying on the sixth time in a minute; StackError."""
        deaths: deque[float] = deque(maxlen=DEATHS_MAX)
        while True:
            for server in self.servers:
                if not server.is_running:
                    _count(deaths, server)
                    logger.warning("server_restarting", server=server.name, log=str(server.log_path))
                    with suppress(DidNotStart):  # counts like a death
                        await server.start()
            await asyncio.sleep(WATCH_SECONDS)


def _count(deaths: deque[float], server: Server) -> None:
    now = asyncio.get_running_loop().time()
    if len(deaths) == DEATHS_MAX and now - deaths[0] < DEATHS_WITHIN_SECONDS:
        raise KeepsDying(server.name, DEATHS_MAX + 1, server.log_path)
    deaths.append(now)
