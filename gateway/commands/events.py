"""`callboard events`: the log of a run, or of all, as it was and as it goes on."""

from typing import Annotated, Any

import msgspec
import typer

from gateway.client import Client
from gateway.commands.options import Here, JsonOption, LimitOption, OutputOption, find_run, here, run_async
from gateway.view.board import Board, event_of
from gateway.view.fold import take
from gateway.view.lines import detail_lines, event_line


def events(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run; without one, of all runs.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what happens, until the run ends.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Everything an event says, below its line.")] = False,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only these: tool.completed, or tool for all of them; may repeat."),
    ] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only behind this sequence.")] = 0,
    limit: LimitOption = 1000,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """Show what happened, an event a line; -f goes on with what happens."""
    at = here(ctx, output="jsonl" if follow and (json or output == "json") else output, json=json and not follow)
    run_async(_events(at, run, follow=follow, verbose=verbose, types=type_ or [], after=after, limit=limit))


async def _events(
    at: Here, named: str | None, *, follow: bool, verbose: bool, types: list[str], after: int, limit: int
) -> None:
    async with at.client() as client:
        run = await find_run(client, named) if named else None
        base = f"/v1/runs/{run}/events" if run else "/v1/events"
        teller = Teller(at, await _names(client, run, after=after, types=types), verbose=verbose)
        if follow:
            await _follow(client, teller, base, after=after, types=types)
            return
        found = await client.rows(base, limit=limit, type=types, after=str(after) if after else None)
    if at.screen.is_table:
        for raw in found.rows:
            teller.tell(raw)
    ids = [str(msgspec.json.decode(raw, type=_Seq).seq) for raw in found.rows]
    if not at.screen.is_table or not found.rows:
        at.screen.many(
            found.rows,
            ids=ids,
            columns=(),
            rows=list,
            nothing="nothing happened there",
            more=found.has_more,
            next_cursor=found.next_cursor,
        )
    elif found.has_more:
        at.screen.say(f"there are more: --after {ids[-1]}")


async def _follow(client: Client, teller: "Teller", base: str, *, after: int, types: list[str]) -> None:
    from gateway.commands.away import Away
    from gateway.commands.exits import INTERRUPTED, Quit
    from gateway.commands.follow import CLOCK, Detached, interruptible

    params: dict[str, Any] = {"type": types} if types else {}
    away = Away(teller.at.screen, talks=True, seconds=CLOCK.monotonic)
    try:
        async with interruptible():
            async for frame in client.stream(f"{base}/stream", after=after, away=away.note, **params):
                if frame.seq:
                    teller.tell(frame.data)
    except Detached:
        raise Quit(INTERRUPTED) from None


class Teller:
    """Tells events one by one; `board` learns the names of places as it goes."""

    def __init__(self, at: Here, board: Board, *, verbose: bool) -> None:
        self.at = at
        self.board = board
        self.verbose = verbose

    def tell(self, raw: bytes) -> None:
        """Write one event, an envelope in JSON, in the form asked for."""
        from events.envelope import Envelope

        screen = self.at.screen
        if screen.output == "yaml":
            screen.write("---")
        if not screen.is_table:
            seq = str(msgspec.json.decode(raw, type=_Seq).seq)
            screen.one(raw, id_=seq, lines=list)
            return
        envelope = msgspec.json.decode(raw, type=Envelope)
        event = event_of(envelope)
        if event is None:
            screen.write(f"#{envelope.seq} {envelope.type}: newer than this program")
            return
        self.board = take(self.board, event)
        of = "" if self.board.run else envelope.run
        screen.lines(
            [event_line(event, self.board, times=screen.times, columns=screen.columns, look=screen.out, of=of)]
        )
        if self.verbose:
            screen.lines(detail_lines(event))


class _Seq(msgspec.Struct):
    seq: int


async def _names(client: Client, run: str | None, *, after: int, types: list[str]) -> Board:
    """The board an event is told on; if it does not see all of the run, it is given the steps' names."""
    board = Board(run=run or "")
    if run is None or not (after or types):
        return board
    from events.envelope import from_rfc3339
    from gateway import views

    view = await client.get(f"/v1/runs/{run}", views.Run)
    rows = await client.rows(f"/v1/runs/{run}/steps")
    steps = [msgspec.json.decode(row, type=views.Step) for row in rows.rows]
    return msgspec.structs.replace(
        board, actors={step.id: step.key for step in steps}, first_ms=from_rfc3339(view.created_at)
    )
