"""`callboard admin`: what an operator does once in a while."""

import typer

from gateway.commands.budget import workspace_budget
from gateway.commands.nouns import Noun, group
from gateway.commands.options import Here, here
from gateway.settings import Settings
from gateway.view.paint import Piece, line

app = group(Noun, "What an operator does once in a while.")


app.command("budget")(workspace_budget)


@app.command("ensure")
def ensure(ctx: typer.Context) -> None:
    """Make the streams and the tables that are missing, and check those that are there."""
    from gateway.commands.serving import connected, run_server

    at = here(ctx)
    settings = connected(at.settings, needs_database=True)
    raise typer.Exit(run_server(_ensure(at, settings), quiet(settings), process="admin"))


@app.command("rebuild-projections")
def rebuild_projections(ctx: typer.Context) -> None:
    """Fold the whole log anew, beside the old tables, and put the new ones in their place."""
    from gateway.commands.serving import connected, run_server

    at = here(ctx)
    settings = connected(at.settings, needs_database=True)
    raise typer.Exit(run_server(_rebuild(at, settings), quiet(settings), process="admin"))


def quiet(settings: Settings) -> Settings:
    """Return settings under which only warnings are logged, as text, unless everything is asked for."""
    from msgspec.structs import replace

    return settings if settings.log_level == "debug" else replace(settings, log_level="warning", log_format="text")


async def _ensure(at: Here, settings: Settings) -> int:
    from gateway.commands.serving import reached_store
    from gateway.system import open_system

    async with reached_store(settings) as store, open_system(settings):
        at.screen.say(_done(at, "the streams of the log are there, with the settings they must have"))
        at.screen.say(_done(at, f"the tables are there, and hold the log up to {await store.position()}"))
    return 0


async def _rebuild(at: Here, settings: Settings) -> int:
    from gateway.commands.serving import reached_store
    from gateway.system import open_system
    from projections.rebuild import rebuild

    async with reached_store(settings) as store, open_system(settings) as system:
        end = await system.facts.end()

        def progress(seq: int) -> None:
            if at.screen.is_live:
                at.screen.say(line(Piece(f"  {seq} of {end}", "dim")))

        reached = await rebuild(store, system.facts, progress=progress)
        at.screen.say(_done(at, f"the tables are a fold of the log up to {reached} again"))
    return 0


def _done(at: Here, text: str) -> tuple[Piece, ...]:
    return line(Piece(at.screen.err.sign("done"), "good"), " ", text)
