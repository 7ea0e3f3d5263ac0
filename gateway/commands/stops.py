"""`callboard runs cancel`, `terminate`, `pause`, `resume`: stop runs, and let them go on."""

from typing import Annotated

import msgspec
import typer

from gateway.commands.exits import OK
from gateway.commands.options import Here, JsonOption, OutputOption, QuietOption, RunArgument, find_run, here, run_async
from gateway.commands.runs import app

ReasonOption = Annotated[str, typer.Option("-m", "--reason", help="Why; it stands in the log.")]


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    run: RunArgument,
    reason: ReasonOption = "",
    output: OutputOption = "table",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stop a run: nothing new starts, what runs is told to stop."""
    run_async(_tell(here(ctx, output=output, json=json, quiet=quiet), run, "cancel", reason))


@app.command("terminate")
def terminate(
    ctx: typer.Context,
    run: RunArgument,
    reason: ReasonOption = "",
    output: OutputOption = "table",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stop a run at once: it is canceled now, what is still open stops behind it."""
    run_async(_tell(here(ctx, output=output, json=json, quiet=quiet), run, "terminate", reason))


@app.command("pause")
def pause(
    ctx: typer.Context,
    run: RunArgument,
    reason: ReasonOption = "",
    output: OutputOption = "table",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Pause a run: what is in flight ends and is kept, nothing new is asked."""
    run_async(_tell(here(ctx, output=output, json=json, quiet=quiet), run, "pause", reason))


@app.command("resume")
def resume(
    ctx: typer.Context,
    run: RunArgument,
    reason: ReasonOption = "",
    output: OutputOption = "table",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Let a paused run go on where it was."""
    run_async(_tell(here(ctx, output=output, json=json, quiet=quiet), run, "resume", reason))


async def _tell(at: Here, named: str, verb: str, reason: str) -> int:
    from gateway import views
    from gateway.commands.asking import who

    async with at.client() as client:
        run = await find_run(client, named)
        raw = await client.post(f"/v1/runs/{run}/{verb}", {"reason": reason, "by": who()}, msgspec.Raw)
    view = msgspec.json.decode(bytes(raw), type=views.Run)
    if at.screen.quiet or not at.screen.is_table:
        at.screen.one(bytes(raw), id_=run, lines=list)
    else:
        at.screen.say(f"{run} {_word(verb, run, view.status)}")
    return OK


def _word(verb: str, run: str, status: str) -> str:
    """Say how the run stands now that it was told: an answer can be older than what came of it."""
    if verb in ("cancel", "terminate"):
        return "canceled" if status == "canceled" else "is being canceled"
    if verb == "pause":
        return f"is paused: callboard runs resume {run} lets it go on" if status == "paused" else f"is {status}"
    return "goes on" if status not in ("paused", "canceled") else f"is {status}"
