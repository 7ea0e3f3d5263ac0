"""Everything in one process: the embedded servers, a worker, the projector and the gateway. `up` and `demo` use it alike."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from deploy.local import LocalStack
from gateway.commands.serving import REACH_SECONDS_MAX, end, reached_store
from gateway.serve import serve
from gateway.settings import Settings
from gateway.system import System, open_system, run_worker
from gateway.telemetry import is_tracing
from gateway.trace_export import export_traces
from projections.errors import RebuildNeeded
from projections.rebuild import rebuild
from projections.runner import Runner
from projections.store import Store
from toolbox.sandbox import Sandbox
from toolbox.sandbox import probe as probe_sandbox

DRAIN_SECONDS_MAX: Final = 9.0

log = structlog.get_logger()


class Together(msgspec.Struct, frozen=True):
    """What runs: its addresses, the sandbox's tier, the open system, and what ends if a part of it fails."""

    api_url: str
    nats_url: str
    database_url: str
    sandbox: Sandbox | None
    system: System
    failed: asyncio.Future[None]


@asynccontextmanager
async def together(
    settings: Settings, *, nats_port: int = 0, durable: bool = True, lost: asyncio.Event | None = None
) -> AsyncGenerator[Together]:
    """Start everything in the settings' data folder, and stop it in order: the worker drains while its facts are still
    folded and told. Servers whose address the settings give are not started.

    Raises StackError, NatsUnreachable, Quit, SettingsError, and what ends a part.
    """
    probing = asyncio.create_task(probe_sandbox())
    stack = LocalStack(
        settings.data,
        nats_url=settings.nats_url or None,
        database_url=settings.database_url or None,
        nats_port=nats_port,
        nats_server_bin=Path(settings.nats_server_bin) if settings.nats_server_bin else None,
        durable=durable,
    )
    try:
        async with stack:
            drain = min(settings.drain_seconds, DRAIN_SECONDS_MAX)
            settings = replace(settings, nats_url=stack.nats_url, database_url=stack.database_url, drain_seconds=drain)
            async with (
                reached_store(settings) as store,
                open_system(settings, lost=lost) as system,
                _parts(system, store, stack, await probing) as running,
            ):
                yield running
    finally:
        await end(probing)


@asynccontextmanager
async def _parts(system: System, store: Store, stack: LocalStack, sandbox: Sandbox | None) -> AsyncGenerator[Together]:
    stop, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    listening: asyncio.Future[str] = loop.create_future()
    failed: asyncio.Future[None] = loop.create_future()
    outlasting = [
        asyncio.create_task(_project(store, system), name="projector"),
        asyncio.create_task(stack.watch(), name="servers"),
    ]
    if is_tracing():
        outlasting.append(asyncio.create_task(export_traces(system), name="traces"))
    draining = [
        asyncio.create_task(run_worker(system, stop, sandbox=sandbox, ready=ready), name="worker"),
        asyncio.create_task(serve(system, store, stop, ready=listening.set_result), name="gateway"),
    ]
    for task in (*outlasting, *draining):
        task.add_done_callback(lambda done: _note(done, failed))
    try:
        await asyncio.wait(
            {asyncio.ensure_future(listening), failed}, return_when=asyncio.FIRST_COMPLETED, timeout=REACH_SECONDS_MAX
        )
        if failed.done():
            failed.result()
        yield Together(
            api_url=await listening,
            nats_url=stack.nats_url,
            database_url=stack.database_url,
            sandbox=sandbox,
            system=system,
            failed=failed,
        )
    finally:
        stop.set()
        await asyncio.wait(draining, timeout=DRAIN_SECONDS_MAX + 2)
        await end(*draining)
        await end(*outlasting)
        if failed.done() and not failed.cancelled():
            failed.exception()


async def _project(store: Store, system: System) -> None:
    """Nobody else reads these tables: if they are of another version, or of a log that is gone, they are folded anew."""
    try:
        await Runner(store, system.facts).run()
    except RebuildNeeded as fault:
        log.warning("rebuilding_projections", reason=str(fault))
        await rebuild(store, system.facts)
        await Runner(store, system.facts).run()


def _note(done: asyncio.Task[None], failed: asyncio.Future[None]) -> None:
    if not done.cancelled() and (fault := done.exception()) is not None and not failed.done():
        failed.set_exception(fault)
