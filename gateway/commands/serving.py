"""What processes that serve have in common: their event loop, their signals, their end."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.commands.exits import INTERNAL, OK, UNREACHABLE, USAGE, Quit
from gateway.commands.state import read_up
from gateway.settings import Settings
from projections.errors import DatabaseUnreachable
from projections.store import Store, open_store

REACH_SECONDS_MAX: Final = 10.0
AGAIN_SECONDS: Final = 0.25
AWAY_SECONDS: Final = 2.0
STOP_SECONDS_MAX: Final = 15.0
STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger()


def run_server(work: Coroutine[Any, Any, int], settings: Settings, *, process: str, file: Path | None = None) -> int:
    """Run a serving process to its end and return its exit code."""
    from gateway.telemetry import telemetry

    try:
        with (
            telemetry(settings, process=process, file=None if settings.log_level == "debug" else file),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            return runner.run(work)
    finally:
        work.close()  # it may never have begun, as when the log file cannot be written


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


@asynccontextmanager
async def stopping(lost: asyncio.Event | None = None) -> AsyncGenerator[asyncio.Event]:
    """Yield an event that SIGINT and SIGTERM set, and `lost`, if given; a second signal ends the process on the spot."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in STOPS:
        loop.add_signal_handler(number, on_signal, number)
    losing = asyncio.create_task(_lost(lost, stop)) if lost is not None else None
    try:
        yield stop
    finally:
        if losing is not None:
            losing.cancel()
        for number in STOPS:
            loop.remove_signal_handler(number)


async def _lost(lost: asyncio.Event, stop: asyncio.Event) -> None:
    await lost.wait()
    if not stop.is_set():
        log.error("connection_lost", reason="the connection to NATS is closed for good; this process ends")
    stop.set()


def exit_of(lost: asyncio.Event) -> int:
    """Return the exit code of a process that served: 1 if it lost its connection for good."""
    return INTERNAL if lost.is_set() else OK


def connected(settings: Settings, *, needs_database: bool) -> Settings:
    """Return settings with the addresses of the `up` that runs in this folder, where none are given. Raises Quit."""
    from msgspec.structs import replace

    up = read_up(settings.data)
    if not settings.nats_url and up is not None:
        settings = replace(settings, nats_url=up.nats_url)
    if not settings.database_url and up is not None:
        settings = replace(settings, database_url=up.database_url)
    if not settings.nats_url:
        raise Quit(USAGE, "no address of NATS", hint="set CALLBOARD_NATS_URL, or run `callboard up` in this folder")
    if needs_database and not settings.database_url:
        hint = "set CALLBOARD_DATABASE_URL, or run `callboard up` in this folder"
        raise Quit(USAGE, "no address of Postgres", hint=hint)
    return settings


@asynccontextmanager
async def reached_store(settings: Settings, *, seconds: float | None = REACH_SECONDS_MAX) -> AsyncGenerator[Store]:
    """Open the read models; a server that is away is waited for, `seconds` at most (None: for ever).

    Raises Quit, DatabaseUnfit.
    """
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    while True:
        opening = open_store(settings.database_url)
        try:
            store = await opening.__aenter__()
            break
        except DatabaseUnreachable as fault:
            if seconds is not None and loop.time() - began > seconds:
                raise Quit(UNREACHABLE, str(fault), hint="callboard doctor") from None
            if not told and loop.time() - began > AWAY_SECONDS:
                told = True
                log.warning("database_unreachable", reason=str(fault))
            await asyncio.sleep(AGAIN_SECONDS if not told else AGAIN_SECONDS * 4)
    try:
        yield store
    finally:
        with suppress(DatabaseUnreachable):
            await opening.__aexit__(None, None, None)


async def until_stopped(stop: asyncio.Event, *tasks: asyncio.Task[Any]) -> None:
    """Wait for `stop`, or for a task that ends before; raises what it raised."""
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        waiting.cancel()


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
