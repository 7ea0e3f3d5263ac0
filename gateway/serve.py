"""The gateway of a process: HTTP by an embedded uvicorn, the tail of the log and the NATS services, until told to stop.

Stopping drains: streams end with a place to resume from, requests in hand are answered within two seconds.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.auth import Guard
from gateway.gateway import Gateway, Limits
from gateway.http import application
from gateway.services import service
from gateway.settings import Settings, SettingsError
from gateway.system import System
from projections.errors import DatabaseUnfit, DatabaseUnreachable
from projections.store import Store, open_store

PORT_MAX: Final = 65_535
GRACE_SECONDS: Final = 2
BACKLOG: Final = 512
KEEP_ALIVE_SECONDS: Final = 75
SEND_BUFFER_BYTES: Final = 256 * 1024
DATABASE_AGAIN_SECONDS: Final = 2.0
DATABASE_FIRST_SECONDS: Final = 3.0
"""So long the first requests wait for Postgres; a host that swallows packets would hold them up for longer."""

log = structlog.get_logger()


class PortInUse(SettingsError):
    """Another process listens there."""


async def serve(
    system: System,
    store: Store | None,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None] | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve until `stop` is set; `ready` is called with the address once requests are taken.

    Without a store, the settings' database is tried until it answers; meanwhile what needs it is refused. Raises
    SettingsError (no key for an open address), PortInUse, DatabaseUnfit, LogUnavailable.
    """
    guard = Guard(system.settings)
    listening = listen(system.settings)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        gateway = Gateway(system, store, limits=limits)
        gateway.url = url_of(listening)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(gateway.run(), name="tail")]
        if store is None and system.settings.database_url:
            tried = asyncio.Event()
            tasks.append(group.create_task(_reach_database(gateway, tried), name="database"))
            with suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), DATABASE_FIRST_SECONDS)
        await gateway.tail.ready.wait()
        services = await stack.enter_async_context(AsyncExitStack())
        await services.enter_async_context(service(gateway))
        server = _Server(_config(gateway, guard))
        serving = group.create_task(server.serve(sockets=[listening]), name="http")
        await server.begun.wait()
        log.info("gateway_listening", url=gateway.url)
        if ready is not None:
            ready(gateway.url)
        await stop.wait()
        gateway.tail.end("draining")
        server.should_exit = True
        await services.aclose()
        await asyncio.wait([serving])
        for task in tasks:
            task.cancel()


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens at the settings' address. Raises PortInUse, SettingsError."""
    host, port = settings.host, settings.port
    if not 0 <= port <= PORT_MAX:
        raise SettingsError(
            f"cannot listen at {host}:{port}: a port is 0 (any) to {PORT_MAX}; give another with --port"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            "127.0.0.1" if host == "localhost" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as fault:
        raise SettingsError(f"cannot listen at {host}:{port}: {fault}; give another --host or --port") from None
    try:
        _set_options(found)
        found.bind(address)
        found.listen(BACKLOG)
        found.setblocking(False)
    except OSError as fault:
        found.close()
        raise _cannot_listen(fault, host, port) from None
    return found


def url_of(listening: socket.socket) -> str:
    """Return the address of a socket as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _set_options(found: socket.socket) -> None:
    """A connection inherits these: a small buffer, so that what a slow client has not taken is known here, and ends for the dead."""
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if sys.platform == "linux":
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


def _cannot_listen(fault: Exception, host: str, port: int) -> SettingsError:
    match getattr(fault, "errno", None):
        case number if number == EADDRINUSE:
            return PortInUse(
                f"port {port} on {host} is in use; stop what listens there, or give another with --port (CALLBOARD_PORT)"
            )
        case number if number == EACCES:
            return SettingsError(f"port {port} needs rights this user lacks; give one above 1023 with --port")
        case number if number == EADDRNOTAVAIL:
            return SettingsError(f"host {host} is no address of this machine; give another with --host")
        case _:
            return SettingsError(f"cannot listen at {host}:{port}: {fault}; give another --host or --port")


class _Server(uvicorn.Server):
    """uvicorn inside our program: the signals stay ours."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _config(gateway: Gateway, guard: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        application(gateway, guard),
        http=_patient(gateway.limits.headers_seconds_max),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=gateway.limits.headers_bytes_max,
    )


def _patient(seconds: float) -> type[H11Protocol]:
    """Return the protocol that waits so long for a request's head, and then no longer (slowloris)."""

    class Patient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._late = self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            if getattr(self, "cycle", None) is None and not self.transport.is_closing():
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

    return Patient


async def _reach_database(gateway: Gateway, tried: asyncio.Event) -> None:
    """Open the store as soon as Postgres answers, and keep it open until cancelled; `tried` is set after the first try.

    Raises DatabaseUnfit if the first Postgres met is unfit: waiting would not mend it.
    """
    while True:
        try:
            async with open_store(gateway.system.settings.database_url) as store:
                gateway.reads.store = store
                tried.set()
                await asyncio.Event().wait()
        except (DatabaseUnreachable, DatabaseUnfit) as fault:
            if isinstance(fault, DatabaseUnfit) and not tried.is_set():
                raise
            log.warning("database_unreachable", reason=str(fault))
            tried.set()
            await asyncio.sleep(DATABASE_AGAIN_SECONDS)
        finally:
            gateway.reads.store = None
