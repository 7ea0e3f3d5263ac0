"""`callboard up`: everything on this machine, in one process, until Ctrl-C."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from gateway.commands.options import Here, here
from gateway.settings import Settings
from gateway.view.paint import Line, Look, Piece, line
from gateway.view.table import fields

if TYPE_CHECKING:
    from gateway.commands.together import Together

LOG = "callboard.log"


def up(
    ctx: typer.Context,
    port: Annotated[int | None, typer.Option("--port", help="Port of the API; 0 takes any free one.")] = None,
    nats_port: Annotated[int, typer.Option("--nats-port", help="Port of NATS; 0 takes any free one.")] = 0,
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing: data in a temporary folder.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="What runs use unless they say: scripted, anthropic, ...")
    ] = None,
) -> None:
    """Start NATS, Postgres, a worker, the projector and the gateway here, until Ctrl-C."""
    from gateway.commands.serving import run_server

    at = here(ctx)
    settings = replace(at.settings, port=at.settings.port if port is None else port, model=model or at.settings.model)
    with ExitStack() as stack:
        folder = settings.data
        if memory:
            from tempfile import TemporaryDirectory

            settings = replace(settings, home=stack.enter_context(TemporaryDirectory(prefix="callboard-")))
        work = _up(at, settings, folder=folder, nats_port=nats_port, durable=not memory)
        raise typer.Exit(run_server(work, settings, process="up", file=settings.data / LOG))


async def _up(at: Here, settings: Settings, *, folder: Path, nats_port: int, durable: bool) -> int:
    from gateway.commands.serving import exit_of, stopping, until_stopped
    from gateway.commands.state import Up, written_up
    from gateway.commands.together import together

    lost = asyncio.Event()
    async with stopping(lost) as stop, together(settings, nats_port=nats_port, durable=durable, lost=lost) as running:
        with written_up(folder, Up(running.api_url, running.nats_url, running.database_url)):
            at.screen.lines(banner(settings, running, at.screen.out))
            failed = asyncio.create_task(_failed(running))
            try:
                await until_stopped(stop, failed)
            finally:
                failed.cancel()
            at.screen.say("", line(Piece("stopping: what is in hand is finished first (again to stop at once)", "dim")))
    return exit_of(lost)


async def _failed(running: "Together") -> None:
    await asyncio.shield(running.failed)


def banner(settings: Settings, running: "Together", look: Look) -> list[Line]:
    """Return what runs where, and what to do next."""
    from gateway.blueprint import names
    from gateway.system import package_version

    sandbox = running.sandbox.tier if running.sandbox else "none: command tools are refused"
    what = fields(
        [
            ("API", line(Piece(running.api_url, "accent"), "   docs at /docs")),
            ("NATS", running.nats_url),
            ("Postgres", running.database_url if settings.database_url else "embedded, in the data folder"),
            ("data", f"{settings.data}   log in {LOG}"),
            ("sandbox", sandbox if running.sandbox else line(Piece(sandbox, "warn"))),
            ("model", settings.model),
            ("blueprints", ", ".join(names())),
        ]
    )
    subscribe = f"nats --server {running.nats_url} sub 'live.cb.>' --translate 'callboard fmt'"
    tries = ('callboard run "Build a small web app" --blueprint software', "callboard events @last -f", subscribe)
    return [
        line(),
        line(" ", Piece(look.sign("done"), "good"), " ", Piece(f"Callboard {package_version()} is up", "bold")),
        line(),
        *(line("   ", *each) for each in what),
        line(),
        line("   ", Piece("try, in another terminal, in this folder:", "dim")),
        *(line("     ", each) for each in tries),
        line(),
        line("   ", Piece("Ctrl-C stops it; the data stays", "dim")),
    ]
