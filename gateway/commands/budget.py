"""Budgets on the command line: what `--budget` and `--add` mean, and `callboard runs budget`."""

import re
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.commands.exits import OK, TIMED_OUT, USAGE, Quit
from gateway.commands.options import Here, JsonOption, OutputOption, RunArgument, find_run, here, run_async

FIELDS: Final = ("tokens", "usd", "model_calls", "tool_calls", "wall", "depth")
FORM: Final = "2.00 (US dollars), or tokens=50000,model_calls=20,tool_calls=50,usd=2.00,wall=10m,depth=2"
_NUMBER: Final = re.compile(r"([0-9]+)([kM]?)")
_MONEY: Final = re.compile(r"\$?([0-9]{1,9})(?:\.([0-9]{1,6}))?")
_UNITS: Final = {"": 1, "k": 1_000, "M": 1_000_000}


def budget_of(text: str, option: str = "--budget") -> dict[str, int]:
    """Read a budget as people write it: dollars alone, name=number with commas, or none. Raises Quit naming the part."""
    if not text.strip():
        raise Quit(USAGE, f"{option}: is empty, and would be no limit at all", hint=f"{option} {FORM}")
    if text.strip() == "none":
        return {}
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            name, value = "usd", name
        field, number = _read(name, value, option)
        if field in found:
            raise Quit(USAGE, f"{option}: {name} is given twice")
        found[field] = number
    return found


def _read(name: str, value: str, option: str) -> tuple[str, int]:
    match name:
        case "usd":
            return "cost_micros", _micros(value, option)
        case "wall" | "wall_seconds":
            from gateway.commands.run import seconds_of

            return "wall_seconds", max(1, round(seconds_of(value)))
        case "tokens" | "model_calls" | "tool_calls" | "depth" if (found := _NUMBER.fullmatch(value)) is not None:
            return name, int(found[1]) * _UNITS[found[2]]
        case _:
            raise Quit(USAGE, f"{option}: {name[:20]}={value[:20]} is no limit", hint=f"{option} {FORM}")


def _micros(value: str, option: str) -> int:
    found = _MONEY.fullmatch(value)
    if found is None:
        raise Quit(USAGE, f"{option}: {value[:40]!r} is no amount of US dollars", hint=f"{option} {FORM}")
    return int(found[1]) * 1_000_000 + int((found[2] or "").ljust(6, "0"))


def budget(
    ctx: typer.Context,
    run: RunArgument,
    add: Annotated[str, typer.Option("--add", help=f"What comes on top: {FORM}.")] = "",
    to: Annotated[str, typer.Option("--to", help="What it is set to, in the same form; the rest stays.")] = "",
    reason: Annotated[str, typer.Option("-m", "--reason", help="Why; it stands in the log.")] = "",
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show what a run may use and has left, or raise it: a run that waits for its budget goes on.

    Exit code 7 if it was raised and that is still too little to go on. `callboard help budgets` explains.
    """
    if add and to:
        raise Quit(USAGE, "--add and --to: one of them, not both", hint=f"callboard runs budget {run} --add 1.00")
    asked = {"add": budget_of(add, "--add") if add else {}, "budget": budget_of(to, "--to") if to else {}}
    run_async(_budget(here(ctx, output=output, json=json), run, asked, reason))


async def _budget(at: Here, named: str, asked: dict[str, dict[str, int]], reason: str) -> int:
    from gateway import views
    from gateway.commands.asking import who
    from gateway.view.budget_lines import budget_lines

    raises = any(asked.values())
    async with at.client() as client:
        path = f"/v1/runs/{await find_run(client, named)}/budget"
        if raises:
            body: dict[str, Any] = {**asked, "reason": reason, "by": who()}
            raw = bytes(await client.post(path, body, msgspec.Raw))
        else:
            raw = await client.raw(path)
    found = msgspec.json.decode(raw, type=views.BudgetView)
    at.screen.one(raw, id_=found.run, lines=lambda: budget_lines(found))
    if raises and found.waits:
        why = "" if at.screen.is_table else f": {found.waits}"
        raise Quit(
            TIMED_OUT, f"the budget is set, and still too small for the run to go on{why}", hint=found.hint or ""
        )
    return OK


def workspace_budget(
    ctx: typer.Context,
    to: Annotated[
        str, typer.Option("--to", help="All its limits: 50.00 (US dollars), tokens=5M,...; none: no limit.")
    ] = "",
    reason: Annotated[str, typer.Option("-m", "--reason", help="Why; it stands in the log.")] = "",
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show or set what all runs of the workspace may use together; runs claim from it as they begin."""
    limit = budget_of(to, "--to") if to else None
    run_async(_workspace_budget(here(ctx, output=output, json=json), limit, reason))


async def _workspace_budget(at: Here, limit: dict[str, int] | None, reason: str) -> int:
    from gateway import views
    from gateway.commands.asking import who
    from gateway.view.budget_lines import workspace_lines

    async with at.client() as client:
        if limit is None:
            raw = await client.raw("/v1/budget")
        else:
            raw = bytes(await client.post("/v1/budget", {"limit": limit, "reason": reason, "by": who()}, msgspec.Raw))
    found = msgspec.json.decode(raw, type=views.WorkspaceBudgetView)
    at.screen.one(raw, id_=found.workspace, lines=lambda: workspace_lines(found))
    return OK
