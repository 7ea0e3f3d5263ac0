"""Following a run to its end: the live tree on a terminal, lines elsewhere, and answers to what it asks."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Final

import msgspec

from events.clock import SystemClock
from events.envelope import Envelope
from events.run import RunPaused
from gateway.client import Client, Frame
from gateway.commands.asking import Decision, decide, send
from gateway.commands.away import Away
from gateway.commands.exits import PENDING, TIMED_OUT, Quit
from gateway.commands.live import Picture
from gateway.commands.screen import Screen
from gateway.view.board import Ask, Board, Event, event_of
from gateway.view.budget_lines import raise_line
from gateway.view.budget_words import exhausted
from gateway.view.fold import take
from gateway.view.lines import event_line, notable
from gateway.view.paint import Piece, line
from gateway.view.tree import answer_line, resume_line, tree

FRAME_SECONDS: Final = 0.12
SETTLE_SECONDS: Final = 0.2
"""So long an approval is left alone: a replay may bring its decision with it."""
CLOCK: Final = SystemClock()
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Detached(Exception):
    """Ctrl-C: nobody watches any more, and the run goes on."""


class TookTooLong(Exception):
    """The time to wait is over, and the run goes on."""


class Watcher:
    """Watches one run. `answer`: ask the human here, approve by itself (and say so, as `because`), or leave it."""

    def __init__(
        self,
        client: Client,
        screen: Screen,
        run: str,
        *,
        approves: bool = False,
        because: str = "",
        later: bool = True,
    ) -> None:
        """Without `later` nobody else can answer what is asked here: whoever does not, ends it."""
        self.client = client
        self.later = later
        self.screen = screen
        self.board = Board(run=run)
        self.approves = approves
        self.because = because
        self.first_event = asyncio.Event()
        self._asked: set[str] = set()
        self._answering = asyncio.Event()
        self._live = screen.is_live and not (screen.output == "jsonl" and screen.columns)
        self._talks = not self._live and screen.output != "jsonl" and not screen.quiet
        self._picture = Picture(screen.err)
        self._away = Away(screen, talks=not self._live and not screen.quiet, seconds=CLOCK.monotonic)
        self._changed = asyncio.Event()

    async def watch(self, *, seconds: float = 0) -> Board:
        """Follow the run to its end and return how it stands then.

        Raises Detached, TookTooLong after `seconds` (0: never), Quit if it needs a human and may not ask, Problem,
        Unreachable.
        """
        try:
            async with interruptible(), asyncio.timeout(seconds or None):
                await self._watch()
        except TimeoutError:
            raise TookTooLong from None
        finally:
            self._picture.clear()
            if self.board.seq and not self.screen.quiet and self.screen.output != "jsonl":
                self.screen.say("", *self.picture(), "")
        return self.board

    def picture(self, *, columns: int = 0, rows: int = 0) -> list[tuple[Piece, ...]]:
        """Return the tree as it stands."""
        width = columns or self.screen.columns or 100
        away = self._away.lines()
        rows = rows and max(rows - len(away), 1)
        return [*tree(self.board, now_ms=now_ms(), columns=width, rows=rows, look=self.screen.err), *away]

    async def _watch(self) -> None:
        helpers = [asyncio.create_task(self._draw())] if self._live else []
        helpers.append(asyncio.create_task(self._answer()))
        reading = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait({reading, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, *helpers):
                task.cancel()
            await asyncio.gather(reading, *helpers, return_exceptions=True)

    async def _read(self) -> None:
        path = f"/v1/runs/{self.board.run}/events/stream"
        async for frame in self.client.stream(path, after=0, away=self._away.note):
            if frame.seq:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if self.screen.output == "jsonl":
            self.screen.write(frame.data.decode())
        envelope = msgspec.json.decode(frame.data, type=Envelope)
        event = event_of(envelope)
        if event is None:
            return
        self.board = take(self.board, event)
        self.first_event.set()
        self._changed.set()
        if self._talks and notable(event.fact):
            self._tell(event)

    def _tell(self, event: Event) -> None:
        self.screen.say(event_line(event, self.board, times=self.screen.times, look=self.screen.err))
        if isinstance(event.fact, RunPaused):
            self.screen.say(line("         ", Piece(f"go on with: {resume_line(self.board.run)}", "dim")))
        asked = self.board.asks.get(event.call)
        if asked is not None and asked.since_ms == event.time_ms and not self._handles(asked):
            self.screen.say(line("         ", Piece(f"answer with: {answer_line(asked)}", "dim")))

    def _handles(self, ask: Ask) -> bool:
        return (self.approves and ask.kind == "tool_call") or self.screen.is_interactive

    async def _draw(self) -> None:
        while True:
            if not self._answering.is_set():
                columns, rows = self._picture.size()
                self._picture.draw(self.picture(columns=columns, rows=rows))
            await asyncio.sleep(FRAME_SECONDS)

    async def _answer(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            if self.board.budget is not None and not self.screen.is_interactive:
                hint = f"{raise_line(self.board.run, self.board.budget)}   why: callboard help budgets"
                raise Quit(TIMED_OUT, exhausted(self.board.budget), hint=hint)
            for ask in list(self.board.asks.values()):
                if ask.id not in self._asked:
                    self._asked.add(ask.id)
                    await self._answer_one(ask)

    async def _answer_one(self, ask: Ask) -> None:
        if self.approves and ask.kind == "tool_call":
            became = await send(
                self.client, ask, Decision("approve", comment=f"answered without asking: {self.because}")
            )
            self._note(f"{ask.tool}: {became} ({self.because})")
        elif self.screen.is_interactive:
            self._answering.set()
            self._picture.clear()
            try:
                decision = await self._until_decided(ask)
            finally:
                self._answering.clear()
            if decision is None and not self.later and ask.id in {each.id for each in self.board.asks.values()}:
                raise Detached
            if decision is not None:
                self._note(f"{ask.tool}: {await send(self.client, ask, decision)}")
        elif self.screen.no_input:
            hint = f"{answer_line(ask)}; --yes approves by itself"
            raise Quit(PENDING, f"the run needs a human: {ask.tool} waits for an answer", hint=hint)

    async def _until_decided(self, ask: Ask) -> Decision | None:
        """Ask the human here; if another one is quicker, say so and go on."""
        asking = asyncio.create_task(decide(ask, self.screen, later=self.later))
        try:
            while not asking.done():
                if all(each.id != ask.id for each in self.board.asks.values()):
                    self.screen.say("", line(Piece("answered elsewhere", "dim")))
                    return None
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(asking), FRAME_SECONDS)
            return asking.result()
        finally:
            asking.cancel()

    def _note(self, text: str) -> None:
        if not self.screen.quiet:
            self._picture.clear()
            self.screen.say(line(Piece(self.screen.err.sign("done"), "good"), " ", text))


_inside: ContextVar[bool] = ContextVar("interruptible", default=False)


@asynccontextmanager
async def interruptible() -> AsyncGenerator[None]:
    """Turn SIGINT and SIGTERM inside into Detached, in order; inside another one it leaves that to it.

    A second signal ends the process on the spot.
    """
    if _inside.get():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    caught: list[int] = []

    def interrupt(number: int) -> None:
        if caught:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        caught.append(number)
        task.cancel()

    token = _inside.set(True)
    for number in SIGNALS:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    except (Exception, asyncio.CancelledError) as fault:
        if not caught:
            raise
        if isinstance(fault, asyncio.CancelledError):
            task.uncancel()
        raise Detached from fault  # what breaks while all is taken down on request is not why it ended
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        _inside.reset(token)


def now_ms() -> int:
    """Return the time, in ms since the epoch."""
    return CLOCK.now_ms()
