"""`callboard runs`, `list`, `status`: look at runs."""

from typing import Annotated

import msgspec
import typer

from gateway.commands.exits import PENDING, Quit, of_run
from gateway.commands.nouns import Noun, group
from gateway.commands.options import (
    Here,
    JsonOption,
    LimitOption,
    OutputOption,
    RunArgument,
    StrictOption,
    YesOption,
    find_run,
    here,
    run_async,
)

app = group(Noun, "Look at runs, and stop them.")

StatusOption = Annotated[str | None, typer.Option("--status", help="Only runs in this state.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="Only runs with this label, k=v; may repeat.")]
BlueprintOption = Annotated[str | None, typer.Option("--blueprint", help="Only runs of this blueprint.")]
QueryOption = Annotated[str | None, typer.Option("--search", help="Only runs with these letters in the goal.")]


@app.command("list")
def list_runs(
    ctx: typer.Context,
    status: StatusOption = None,
    label: LabelOption = None,
    blueprint: BlueprintOption = None,
    search: QueryOption = None,
    limit: LimitOption = 50,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    at = here(ctx, output=output, json=json)
    run_async(_list(at, status=status, labels=label or [], blueprint=blueprint, search=search, limit=limit))


@app.command("get")
def get(ctx: typer.Context, run: RunArgument, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Show one run."""
    run_async(_get(here(ctx, output=output, json=json), run))


@app.command("watch")
def watch(
    ctx: typer.Context,
    run: RunArgument,
    yes: YesOption = False,
    strict: StrictOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Follow a run to its end, and answer what it asks; the exit code is the run's."""
    from gateway.commands.run import follow_run

    at = here(ctx, output=output, json=json)
    raise typer.Exit(run_async(follow_run(at, run, yes=yes, strict=strict)))


@app.command("result")
def result(
    ctx: typer.Context,
    run: RunArgument,
    strict: StrictOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show what a run came to; the exit code is the run's, 8 while it has not ended."""
    raise typer.Exit(run_async(_result(here(ctx, output=output, json=json), run, strict=strict)))


@app.command("steps")
def steps(ctx: typer.Context, run: RunArgument, output: OutputOption = "table", json: JsonOption = False) -> None:
    """List the steps of a run."""
    run_async(_steps(here(ctx, output=output, json=json), run))


@app.command("graph")
def graph(ctx: typer.Context, run: RunArgument, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Show the plan of a run: what needs what, and what a gate may send back."""
    run_async(_graph(here(ctx, output=output, json=json), run))


def status(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run; without one, how everything stands.")] = None,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show how a run stands, or everything: what runs, and what waits for a human."""
    at = here(ctx, output=output, json=json)
    run_async(_get(at, run) if run else _overview(at))


async def _list(
    at: Here,
    *,
    status: str | None,
    labels: list[str],
    blueprint: str | None,
    search: str | None,
    limit: int,
) -> None:
    from gateway import views
    from gateway.commands.run import label_of
    from gateway.view.entities import RUNS, run_row

    pairs = [":".join(label_of(label)) for label in labels]
    async with at.client() as client:
        found = await client.rows("/v1/runs", limit=limit, status=status, label=pairs, blueprint=blueprint, q=search)
    runs = [msgspec.json.decode(row, type=views.Run) for row in found.rows]
    showing = at.screen.showing()
    at.screen.many(
        found.rows,
        ids=[run.id for run in runs],
        columns=RUNS,
        rows=lambda: [run_row(run, showing) for run in runs],
        nothing="no such runs"
        if status or pairs or blueprint or search
        else 'no runs yet: callboard run "Build a small app" --blueprint software',
        more=found.has_more,
        next_cursor=found.next_cursor,
    )


async def _get(at: Here, named: str) -> None:
    from gateway import views
    from gateway.view.entities import run_lines

    async with at.client() as client:
        raw = await client.raw(f"/v1/runs/{await find_run(client, named)}")
    run = msgspec.json.decode(raw, type=views.Run)
    showing = at.screen.showing()
    at.screen.one(raw, id_=run.id, lines=lambda: run_lines(run, showing))


async def _result(at: Here, named: str, *, strict: bool) -> int:
    from gateway import views
    from gateway.view.entities import result_lines

    async with at.client() as client:
        run = await find_run(client, named)
        raw = await client.raw(f"/v1/runs/{run}/result")
        view = await client.get(f"/v1/runs/{run}", views.Run)
    if not view.ended:
        raise Quit(
            PENDING, f"{run} is {view.status.replace('_', ' ')}: no result yet", hint=f"callboard runs watch {run}"
        )
    found = msgspec.json.decode(raw, type=views.Result)
    showing = at.screen.showing()
    at.screen.one(raw, id_=found.run_id, lines=lambda: result_lines(found, showing, model=view.model))
    return of_run(found.status, found.error.code if found.error else "", degraded=strict and found.degraded)


async def _steps(at: Here, named: str) -> None:
    from gateway import views
    from gateway.view.entities import STEPS, step_row

    async with at.client() as client:
        found = await client.rows(f"/v1/runs/{await find_run(client, named)}/steps")
    steps = [msgspec.json.decode(row, type=views.Step) for row in found.rows]
    showing = at.screen.showing()
    at.screen.many(
        found.rows,
        ids=[step.id for step in steps],
        columns=STEPS,
        rows=lambda: [step_row(step, showing) for step in steps],
        nothing="no steps yet: the planner is at work",
    )


async def _graph(at: Here, named: str) -> None:
    from gateway import views
    from gateway.view.entities import graph_lines

    async with at.client() as client:
        run = await find_run(client, named)
        raw = await client.raw(f"/v1/runs/{run}/graph")
    graph = msgspec.json.decode(raw, type=views.Graph)
    showing = at.screen.showing()
    at.screen.one(raw, id_=run, lines=lambda: graph_lines(graph, showing))


async def _overview(at: Here) -> None:
    from gateway import views
    from gateway.view.entities import APPROVALS, RUNS, approval_row, run_row
    from gateway.view.paint import Piece, line
    from gateway.view.table import table

    async with at.client() as client:
        states = ("running", "planning", "queued", "waiting", "needs_input", "paused")
        rows = [row for state in states for row in await client.page("/v1/runs", limit=50, status=state)]
        waiting = await client.page("/v1/approvals", limit=50, status="pending")
        letters = await client.page("/v1/dead-letters", limit=100, status="open")
    runs = [msgspec.json.decode(row, type=views.Run) for row in rows]
    approvals = [msgspec.json.decode(row, type=views.Approval) for row in waiting]
    out = [run.id for run in runs if any(wait.kind == "budget" for wait in run.waiting_on)]
    showing, screen = at.screen.showing(), at.screen

    def lines() -> list[tuple[Piece, ...]]:
        shown = [line(Piece(f"{len(runs)} under way", "bold"))]
        if runs:
            shown += table(RUNS, [run_row(run, showing) for run in runs], width_max=screen.columns, look=screen.out)
        shown += [line(), line(Piece(f"{len(approvals)} waiting for a human", "bold"))]
        if approvals:
            cells = [approval_row(approval, showing) for approval in approvals]
            shown += table(APPROVALS, cells, width_max=screen.columns, look=screen.out)
        if out:
            shown += [line(), line(Piece(f"{len(out)} out of budget", "bold"))]
            shown += [line(Piece(f"callboard runs budget {run}", "dim")) for run in out]
        if letters:
            count = f"{len(letters)}{'+' if len(letters) == 100 else ''} dead letter{'s' * (len(letters) > 1)} open"
            shown += [line(), line(Piece(count, "bad"), Piece("  callboard dlq list", "dim"))]
        return shown

    told = {
        "runs": [msgspec.Raw(row) for row in rows],
        "approvals": [msgspec.Raw(row) for row in waiting],
        "dead_letters": [msgspec.Raw(row) for row in letters],
    }
    screen.one(msgspec.json.encode(told), id_="\n".join(run.id for run in runs), lines=lines)
