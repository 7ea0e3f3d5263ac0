"""`callboard run`: a goal goes in, and its run is followed to its end."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import msgspec
import typer

from gateway.client import Client
from gateway.commands.exits import INTERRUPTED, OK, PENDING, USAGE, Quit, of_run
from gateway.commands.options import (
    Here,
    JsonOption,
    OutputOption,
    QuietOption,
    StrictOption,
    YesOption,
    find_run,
    here,
    run_async,
)

FIELDS: Final = frozenset(
    {"goal", "blueprint", "plan", "definition", "model", "labels", "approvals", "limits", "degrade", "budget"}
)
UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(
    ctx: typer.Context,
    goal: Annotated[str | None, typer.Argument(metavar="GOAL", help="What is to be done, in words.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="The request as YAML or JSON: goal, blueprint or plan, labels, ..."),
    ] = None,
    blueprint: Annotated[
        str | None, typer.Option("--blueprint", help="A shipped blueprint's name, or the path of one of your own.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="scripted, anthropic, opus, or a model's full name.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A label, k=v; may repeat.")] = None,
    approve: Annotated[
        Literal["auto", "risky", "all"] | None, typer.Option("--approve", help="Which calls wait for a human.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="The most it may use: 2.00 (US dollars), tokens=50k,wall=10m,..., or none."),
    ] = None,
    key: Annotated[str, typer.Option("--id", help="An idempotency key: the same key starts the run once.")] = "",
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Start it, print its id, and leave it alone.")] = False,
    allow_degraded: Annotated[
        bool, typer.Option("--allow-degraded", help="Let the run go on without steps whose plan says so.")
    ] = False,
    strict: StrictOption = False,
    timeout: Annotated[
        str, typer.Option("--timeout", help="Follow it so long (90s, 10m, 2h), then leave it: exit 8.")
    ] = "",
    yes: YesOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Start a run and follow it to its end; the exit code is the run's."""
    at = here(ctx, output=output, json=json, quiet=quiet)
    request = request_of(file, goal=goal, blueprint=blueprint, model=model, labels=label or [], approve=approve)
    if allow_degraded:
        request["degrade"] = True
    if budget is not None:
        from gateway.commands.budget import budget_of

        request["budget"] = budget_of(budget)
    seconds = seconds_of(timeout) if timeout else 0.0
    raise typer.Exit(run_async(_run(at, request, key=key, detach=detach, seconds=seconds, yes=yes, strict=strict)))


def request_of(
    file: Path | None,
    *,
    goal: str | None,
    blueprint: str | None,
    model: str | None,
    labels: list[str],
    approve: str | None,
) -> dict[str, Any]:
    """Return what is asked of the gateway: the file's fields, with the options over them. Raises Quit."""
    request = _from_file(file) if file else {}
    if goal is not None:
        request["goal"] = goal
    if not str(request.get("goal", "")).strip():
        raise Quit(USAGE, "there is no goal: say what is to be done", hint='callboard run "Build a small app"')
    if blueprint is not None:
        request.pop("definition", None)
        request |= blueprint_field(blueprint)
    for name, value in (("model", model), ("approvals", approve)):
        if value is not None:
            request[name] = value
    if labels:
        request["labels"] = {**dict(request.get("labels") or {}), **dict(map(label_of, labels))}
    return request


def _from_file(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise Quit(USAGE, f"{file}: {' '.join(str(fault).split())}") from None
    if not isinstance(found, dict):
        raise Quit(USAGE, f"{file}: must be fields, such as `goal: Build a small app`")
    fields = cast("dict[str, Any]", found)
    if unknown := sorted(set(fields) - FIELDS):
        raise Quit(USAGE, f"{file}: unknown field {str(unknown[0])[:60]!r}; known: {', '.join(sorted(FIELDS))}")
    return fields


def blueprint_field(named: str) -> dict[str, Any]:
    """Return how a blueprint is sent: a shipped one by its name, one on this disk whole. Raises Quit."""
    is_path = "/" in named or named.endswith((".yaml", ".yml")) or named in (".", "..")
    if not is_path:
        return {"blueprint": named}
    from gateway.blueprint import BlueprintError, load

    try:
        found = load(named)
    except (BlueprintError, OSError) as fault:
        raise Quit(USAGE, f"--blueprint: {fault}") from None
    definition = {
        "name": found.name,
        "description": found.description,
        "steps": found.plan.steps if found.plan else (),
        "roles": tuple(found.roles.values()),
        "degrade": found.degrade,
        **({"budget": found.budget} if found.budget else {}),
    }
    return {"definition": msgspec.to_builtins(definition)}


def label_of(text: str) -> tuple[str, str]:
    """Read a label as people write it; raises Quit naming the one that is none."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Quit(USAGE, f"--label: {text[:80]!r} must be name=value")
    return name, value


def seconds_of(text: str) -> float:
    """Read a duration, 90, 90s, 10m, 2h or 1d, as seconds. Raises Quit."""
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise Quit(USAGE, f"{text[:40]!r} is no duration; write 90s, 10m, 2h or 1d") from None
    if not 0 < seconds < float("inf"):
        raise Quit(USAGE, f"{text[:40]!r}: a duration is longer than nothing")
    return seconds


async def _run(
    at: Here, request: dict[str, Any], *, key: str, detach: bool, seconds: float, yes: bool, strict: bool
) -> int:
    async with at.client() as client:
        accepted = await client.post("/v1/runs", request, dict[str, Any], key=key)
        id_ = str(accepted["id"])
        if detach:
            _tell_detached(at, id_, accepted)
            return OK
        if at.screen.quiet or at.screen.output == "id":
            at.screen.write(id_)
        return await _followed(at, client, id_, yes=yes, seconds=seconds, strict=strict)


def _tell_detached(at: Here, id_: str, accepted: dict[str, Any]) -> None:
    screen = at.screen
    if screen.quiet or screen.is_table:
        screen.write(id_)
    else:
        screen.one(msgspec.json.encode(accepted), id_=id_, lines=list)
    if not screen.quiet:
        screen.say(f"follow: callboard runs watch {id_}", f"stop:   callboard cancel {id_}")


async def follow_run(at: Here, named: str, *, yes: bool, strict: bool = False) -> int:
    """Follow a run that is there; return its exit code."""
    async with at.client() as client:
        return await _followed(at, client, await find_run(client, named), yes=yes, seconds=0, strict=strict)


async def _followed(at: Here, client: Client, id_: str, *, yes: bool, seconds: float, strict: bool) -> int:
    from gateway.commands.follow import Detached, TookTooLong, Watcher

    watcher = Watcher(client, at.screen, id_, approves=yes, because="--yes")
    try:
        board = await watcher.watch(seconds=seconds)
    except Detached:
        how = "stays paused" if watcher.board.paused else "goes on"
        raise Quit(INTERRUPTED, f"no longer followed; {id_} {how}", hint=_ways(id_)) from None
    except TookTooLong:
        how = "stays" if watcher.board.paused else "goes on:"
        raise Quit(PENDING, f"{id_} {how} {watcher.board.status.replace('_', ' ')}", hint=_ways(id_)) from None
    from gateway.commands.outcome import outcome, show_outcome

    found = await outcome(client, board)
    show_outcome(at.screen, found, model=board.model)
    return of_run(found.status, found.error.code if found.error else "", degraded=strict and found.degraded)


def _ways(id_: str) -> str:
    return f"callboard runs watch {shlex.quote(id_)}   or   callboard cancel {shlex.quote(id_)}"
