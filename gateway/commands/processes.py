"""`callboard worker`, `gateway`, `projector`: each part as a process of its own."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.options import here
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.system import System


def worker(
    ctx: typer.Context,
    roles: Annotated[str, typer.Option("--roles", help="Serve these roles only: a,b. All of them by default.")] = "",
) -> None:
    """Work: decide, call models, run tools. As many processes as you like."""
    from gateway.commands.serving import connected, run_server

    settings = connected(here(ctx).settings, needs_database=False)
    wanted = frozenset(role.strip() for role in roles.split(",") if role.strip()) or None
    raise typer.Exit(run_server(_worker(settings, wanted), settings, process="worker"))


def gateway(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="Where to listen; beyond loopback it needs a key.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Where to listen; 0 takes any free one.")] = None,
) -> None:
    """Serve HTTP, event streams and the NATS services."""
    from msgspec.structs import replace

    from gateway.commands.serving import connected, run_server

    settings = connected(here(ctx).settings, needs_database=True)
    settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    raise typer.Exit(run_server(_gateway(settings), settings, process="gateway"))


def projector(ctx: typer.Context) -> None:
    """Fold the log into Postgres. One works, further ones stand by."""
    from gateway.commands.serving import connected, run_server

    settings = connected(here(ctx).settings, needs_database=True)
    raise typer.Exit(run_server(_projector(settings), settings, process="projector"))


async def _worker(settings: Settings, roles: frozenset[str] | None) -> int:
    import structlog

    from gateway.commands.serving import end, exit_of, stopping, until_stopped
    from gateway.system import open_system, run_worker

    lost, ready = asyncio.Event(), asyncio.Event()
    async with open_system(settings, lost=lost) as system, stopping(lost) as stop:
        working = asyncio.create_task(run_worker(system, stop, roles=roles, ready=ready))
        told = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
            if ready.is_set():
                structlog.get_logger().info("worker_ready", roles=sorted(roles) if roles else "all")
            await until_stopped(stop, working)
            if not lost.is_set():
                await working
        finally:
            await end(working, told)
    return exit_of(lost)


async def _gateway(settings: Settings) -> int:
    import structlog

    from gateway.commands.serving import exit_of, stopping
    from gateway.serve import serve
    from gateway.system import open_system

    def ready(url: str) -> None:
        structlog.get_logger().info("gateway_ready", url=url)

    lost = asyncio.Event()
    async with open_system(settings, lost=lost) as system, stopping(lost) as stop:
        await serve(system, None, stop, ready=ready)
    return exit_of(lost)


async def _projector(settings: Settings) -> int:
    import structlog

    from gateway.commands.serving import end, exit_of, stopping, until_stopped
    from gateway.system import open_system
    from gateway.telemetry import is_tracing
    from gateway.trace_export import export_traces

    lost = asyncio.Event()
    async with open_system(settings, lost=lost) as system, stopping(lost) as stop:
        tasks = [asyncio.create_task(_project(settings, system))]
        if is_tracing():
            tasks.append(asyncio.create_task(export_traces(system)))
        structlog.get_logger().info("projector_ready")
        try:
            await until_stopped(stop, *tasks)
        finally:
            await end(*tasks)
    return exit_of(lost)


async def _project(settings: Settings, system: "System") -> None:
    """Fold the log into Postgres, from when it can be reached on, however late that is."""
    from gateway.commands.serving import reached_store
    from projections.runner import Runner

    async with reached_store(settings, seconds=None) as store:
        await Runner(store, system.facts).run()
