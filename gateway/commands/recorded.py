"""`callboard runs export`, `runs replay`: a run as a file, and what today's code makes of a recorded one."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gateway.commands.exits import FAILED, OK, USAGE, Quit
from gateway.commands.options import Here, JsonOption, OutputOption, RunArgument, find_run, here, run_async


def export(
    ctx: typer.Context,
    run: RunArgument,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to; stdout without one.")] = None,
) -> None:
    """Write all events of a run as lines of JSON, as the log has them."""
    at = here(ctx)
    data = run_async(_exported(at, run))
    if file is None:
        at.screen.write(data.decode().rstrip("\n"))
        return
    try:
        file.write_bytes(data)
    except OSError as fault:
        raise Quit(USAGE, f"cannot write {file}: {fault.strerror or fault}", hint="choose another file") from None
    events = data.count(b"\n") - 1
    at.screen.say(f"{events} events in {file}")


def replay(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file that `runs export` wrote.")],
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Fold a recorded run through this version's code and tell the first difference; exit code 5 if there is one.

    Nothing is called or changed: every event is decoded and folded, and every decision that the record tells enough of is
    made again.
    """
    from gateway.export import ExportError, refold
    from gateway.view.replayed import report_lines

    at = here(ctx, output=output, json=json)
    try:
        report = refold(_recorded(at, run))
    except ExportError as fault:
        raise Quit(USAGE, f"{run}: {fault}", hint="callboard runs export RUN FILE") from None
    at.screen.one(msgspec.json.encode(report), id_=run, lines=lambda: report_lines(report))
    raise typer.Exit(OK if report.difference is None else FAILED)


def add_to(app: typer.Typer) -> None:
    """Add these commands to a group."""
    app.command("export")(export)
    app.command("replay")(replay)


def _recorded(at: Here, named: str) -> bytes:
    file = Path(named)
    if file.is_file():
        return file.read_bytes()
    if "/" in named or named.endswith(".jsonl"):
        raise Quit(USAGE, f"there is no file {named}", hint="callboard runs export RUN FILE")
    return run_async(_exported(at, named))


async def _exported(at: Here, named: str) -> bytes:
    async with at.client() as client:
        return await client.raw(f"/v1/runs/{await find_run(client, named)}/export")
