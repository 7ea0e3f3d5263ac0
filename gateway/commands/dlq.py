"""`callboard dlq`: dead letters, what could not be worked on; look at them, replay them, purge them."""

import re
from typing import Annotated, Final

import msgspec
import typer

from events.envelope import rfc3339
from gateway.client import Client
from gateway.commands.exits import CONFLICT, OK, USAGE, Quit
from gateway.commands.nouns import ShowNoun, group
from gateway.commands.options import (
    Here,
    JsonOption,
    LimitOption,
    OutputOption,
    YesOption,
    find_letter,
    find_run,
    here,
    run_async,
)
from gateway.errors import Problem
from gateway.letter_views import DeadLetter, Outcome, Outcomes
from gateway.view.text import plural

app = group(ShowNoun, "Look at dead letters: what could not be worked on, and why. Replay or purge them.")

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE: Final = re.compile(r"(\d{1,6})([smhd])")

LetterArgument = Annotated[str, typer.Argument(metavar="LETTER", help="Its id, a beginning of it, or @last.")]
LettersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="LETTER", help="Ids, beginnings of them, or @last.")
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Only what died as a command, turn, step, timer or delivery.")
]
CodeOption = Annotated[str | None, typer.Option("--code", help="Only with this cause.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Only of this run.")]
RoleOption = Annotated[str | None, typer.Option("--role", help="Only of this role.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="Only from then on: 2h, 3d, 2026-11-21T12:00:00Z.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only from before then.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that are open.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen to each.")]


@app.command("list")
def list_letters(
    ctx: typer.Context,
    status: Annotated[str, typer.Option("--status", help="open, replayed, purged, or all.")] = "open",
    source: SourceOption = None,
    code: CodeOption = None,
    run: RunOption = None,
    role: RoleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """List dead letters, newest first; those that are open, unless told otherwise."""
    at = here(ctx, output=output, json=json)
    which = _Which(source, code, run, role, since, until)
    run_async(_list(at, which, status=None if status == "all" else status, limit=limit))


@app.command("show")
def show(ctx: typer.Context, letter: LetterArgument, output: OutputOption = "table", json: JsonOption = False) -> None:
    """Show a dead letter: its cause, the error of each attempt, and the message itself."""
    run_async(_show(here(ctx, output=output, json=json), letter))


@app.command("replay")
def replay(
    ctx: typer.Context,
    letters: LettersArgument = None,
    every: AllOption = False,
    source: SourceOption = None,
    code: CodeOption = None,
    run: RunOption = None,
    role: RoleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Give letters another chance: a command is sent again, a step opened again, an ended run goes on in a new one.

    Name the letters, or choose the open ones by options. Exit code 9 if one of them was refused.
    """
    at = here(ctx, output=output, json=json)
    which = _Which(source, code, run, role, since, until)
    raise typer.Exit(run_async(_act(at, "replay", letters or [], which, every=every, dry_run=dry_run, yes=yes)))


@app.command("purge")
def purge(
    ctx: typer.Context,
    letters: LettersArgument = None,
    every: AllOption = False,
    source: SourceOption = None,
    code: CodeOption = None,
    run: RunOption = None,
    role: RoleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Close letters without doing anything; they stay in the log. Asks for their number first."""
    at = here(ctx, output=output, json=json)
    which = _Which(source, code, run, role, since, until)
    raise typer.Exit(run_async(_act(at, "purge", letters or [], which, every=every, dry_run=dry_run, yes=yes)))


class _Which(msgspec.Struct, frozen=True):
    """The options that choose letters, as they were typed."""

    source: str | None
    code: str | None
    run: str | None
    role: str | None
    since: str | None
    until: str | None

    @property
    def some(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__struct_fields__)


async def _filter(at: Here, client: Client, which: _Which) -> dict[str, str]:
    made = {"source": which.source, "code": which.code, "role": which.role}
    made["run"] = await find_run(client, which.run) if which.run else None
    made["since"] = _time(which.since, at.screen.now_ms, "--since")
    made["until"] = _time(which.until, at.screen.now_ms, "--until")
    return {name: value for name, value in made.items() if value is not None}


def _time(text: str | None, now_ms: int, option: str) -> str | None:
    if text is None or "T" in text:
        return text
    if (age := _AGE.fullmatch(text)) is None:
        raise Quit(USAGE, f"{option}: {text[:40]!r} is no time", hint="like 30m, 2h, 3d or 2026-11-21T12:00:00Z")
    return rfc3339(now_ms - int(age[1]) * UNITS[age[2]] * 1000)


async def _list(at: Here, which: _Which, *, status: str | None, limit: int) -> None:
    from gateway.view.letters import LETTERS, letter_row

    async with at.client() as client:
        chosen = await _filter(at, client, which)
        found = await client.rows("/v1/dead-letters", limit=limit, status=status, **chosen)
    letters = [msgspec.json.decode(row, type=DeadLetter) for row in found.rows]
    showing = at.screen.showing()
    at.screen.many(
        found.rows,
        ids=[letter.id for letter in letters],
        columns=LETTERS,
        rows=lambda: [letter_row(letter, showing) for letter in letters],
        nothing="no dead letter is open" if status == "open" else "no such dead letters",
        more=found.has_more,
        next_cursor=found.next_cursor,
    )


async def _show(at: Here, named: str) -> None:
    from gateway.view.letters import letter_lines

    async with at.client() as client:
        raw = await client.raw(f"/v1/dead-letters/{await find_letter(client, named)}")
    letter = msgspec.json.decode(raw, type=DeadLetter)
    showing = at.screen.showing()
    at.screen.one(raw, id_=letter.id, lines=lambda: letter_lines(letter, showing))


async def _act(at: Here, verb: str, named: list[str], which: _Which, *, every: bool, dry_run: bool, yes: bool) -> int:
    from gateway.view.letters import OUTCOMES, outcome_row

    if bool(named) == (every or which.some):
        raise Quit(USAGE, "name letters, or choose them by options", hint=f"callboard dlq {verb} --all --dry-run")
    async with at.client() as client:
        if named:
            ids = [await find_letter(client, each) for each in named]
            found = await _named(at, client, verb, ids, dry_run=dry_run, yes=yes)
        else:
            found = await _chosen(at, client, verb, await _filter(at, client, which), dry_run=dry_run, yes=yes)
    rows = [msgspec.json.encode(each) for each in found]
    showing = at.screen.showing()
    at.screen.many(
        rows,
        ids=[each.id for each in found],
        columns=OUTCOMES,
        rows=lambda: [outcome_row(each, showing) for each in found],
        nothing="no dead letter is open there",
    )
    return CONFLICT if not dry_run and any(each.outcome == "refused" for each in found) else OK


async def _named(at: Here, client: Client, verb: str, ids: list[str], *, dry_run: bool, yes: bool) -> list[Outcome]:
    from gateway.commands.asking import who

    if verb == "purge" and dry_run:
        letters = [await client.get(f"/v1/dead-letters/{id_}", DeadLetter) for id_ in ids]
        return [Outcome(id=each.id, outcome="would_purge", run=each.run, step=each.step) for each in letters]
    if verb == "purge":
        at.screen.confirm_count(f"{plural(len(ids), 'dead letter')} will be purged.", len(ids), yes=yes)
    made: list[Outcome] = []
    for id_ in ids:
        try:
            if verb == "purge":
                made.append(await client.delete(f"/v1/dead-letters/{id_}", Outcome, by=who()))
            else:
                body = {"by": who(), "dry_run": dry_run}
                made.append(await client.post(f"/v1/dead-letters/{id_}/replay", body, Outcome))
        except Problem as problem:
            if problem.status != 409 or len(ids) == 1:
                raise
            made.append(Outcome(id=id_, outcome="refused", code=problem.code, detail=problem.detail))
    return made


async def _chosen(
    at: Here, client: Client, verb: str, chosen: dict[str, str], *, dry_run: bool, yes: bool
) -> list[Outcome]:
    from gateway.commands.asking import who

    path = f"/v1/dead-letters/{verb}"
    told = await client.post(path, {"filter": chosen, "dry_run": True}, Outcomes)
    count = sum(each.outcome != "refused" for each in told.data)
    if told.has_more:
        at.screen.say("there are more than a thousand: the same command again takes the next ones")
    if dry_run or not count:
        return told.data
    what = f"{plural(count, 'dead letter')} will be {'purged' if verb == 'purge' else 'replayed'}."
    if verb == "purge":
        at.screen.confirm_count(what, count, yes=yes)
    else:
        at.screen.confirm(f"{what} Go on?", yes=yes)
    return (await client.post(path, {"filter": chosen, "by": who()}, Outcomes)).data
