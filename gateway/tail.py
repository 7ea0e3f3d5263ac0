"""The end of the log, read once in a process and handed to everyone who listens.

Who joins gets the place it joined at: what is behind it is read from the log, what comes after arrives here, so there is
neither a gap nor a repeat. Nobody waits for a slow listener: one whose queue is full gets no more and reads the log again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final, get_args

import msgspec
import structlog

from events.codec import BrokenFact, UnknownFact
from events.envelope import Record, structured
from events.fact import name_of
from events.jetstream.connection import Bus, Msg, Subscription
from events.log import Log, LogUnavailable
from events.run import RunEnd
from events.subjects import DELTAS, EVERY_FACT, parse_delta

TERMINAL: Final = get_args(RunEnd)
AGAIN_SECONDS: Final = 0.5
QUEUE_FRAMES_MAX: Final = 4096
QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024

log = structlog.get_logger()


class Wanted(msgspec.Struct, frozen=True):
    """What a listener wants: a workspace's facts, of some runs or all, of some names or kinds or all.

    With `ends` the end of a run is wanted whatever its name.
    """

    workspace: str
    runs: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    ends: bool = False

    def takes(self, record: Record) -> bool:
        """Tell whether a fact of these runs is wanted."""
        name = name_of(record.fact)
        named = not self.names or name in self.names or name.partition(".")[0] in self.names
        return named or (self.ends and isinstance(record.fact, TERMINAL))


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A fact, or a delta (then `seq` is 0), as it goes over the wire; `ends` a run when nothing comes after it."""

    seq: int
    run: str
    name: str
    data: bytes
    ends: bool = False

    @property
    def text(self) -> bytes:
        """The frame in the framing of server-sent events; a delta has no id, for it can never be asked for again."""
        id_ = b"id: %d\n" % self.seq if self.seq else b""
        return b"%bevent: %b\ndata: %b\n\n" % (id_, self.name.encode(), self.data)


def frame_of(record: Record) -> Frame:
    """Return the frame of a record."""
    ends = isinstance(record.fact, TERMINAL)
    data = msgspec.json.encode(structured(record))
    return Frame(record.seq, record.address.run, name_of(record.fact), data, ends)


class Listener:
    """One who listens, from the place `start` on."""

    def __init__(self, wanted: Wanted, *, start: int, frames_max: int, bytes_max: int) -> None:
        self.wanted = wanted
        self.start = start
        self.overflowed = False
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._woken = asyncio.Event()

    def push(self, frame: Frame) -> None:
        """Queue a frame; a full queue takes no more facts, and a delta is simply lost."""
        full = len(self._frames) >= self._frames_max or self._bytes + len(frame.data) > self._bytes_max
        if full and frame.seq:
            self.overflowed = True
        if not full and not self.overflowed:
            self._frames.append(frame)
            self._bytes += len(frame.data)
        self._woken.set()

    def wake(self) -> None:
        """End a wait."""
        self._woken.set()

    async def next(self, seconds: float) -> list[Frame]:
        """Return what is queued, waiting `seconds` at most for the first of it; nothing when woken or too late."""
        if not self._frames and not self.overflowed:
            self._woken.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return []
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        return frames


class Tail:
    """Follows the whole log and hands each fact to those who want it."""

    def __init__(
        self, facts: Log, bus: Bus, *, frames_max: int = QUEUE_FRAMES_MAX, bytes_max: int = QUEUE_BYTES_MAX
    ) -> None:
        self.facts = facts
        self.bus = bus
        self.position = 0
        """The last sequence handed out."""
        self.over = ""
        """Why nothing will come any more: draining, outdated, log_lost."""
        self.ready = asyncio.Event()
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._listeners: dict[tuple[str, str], set[Listener]] = defaultdict(set)
        self._delta_listeners: dict[tuple[str, str], set[Listener]] = defaultdict(set)
        self._deltas: Subscription | None = None

    @property
    def listening(self) -> int:
        """How many listen."""
        return len({listener for listeners in self._listeners.values() for listener in listeners})

    async def run(self) -> None:
        """Follow until cancelled; a fact that cannot be read ends it for good, for none may be skipped."""
        try:
            self.position = await self._end()
            self.ready.set()
            async for batch in self.facts.follow(EVERY_FACT, after=self.position):
                self._hand_out(batch)
                await asyncio.sleep(0)
        except (UnknownFact, BrokenFact) as fault:
            log.error("tail_outdated", after=self.position, error=str(fault))
            self.end("outdated")
        except LogUnavailable as fault:
            log.error("tail_lost", after=self.position, error=str(fault))
            self.end("log_lost")

    def end(self, reason: str) -> None:
        """Tell all who listen that nothing will come any more."""
        self.over = self.over or reason
        self.ready.set()
        for listener in {listener for listeners in self._listeners.values() for listener in listeners}:
            listener.wake()

    @contextmanager
    def join(self, wanted: Wanted, *, deltas: bool = False) -> Generator[Listener]:
        """Listen from here on, until the block ends; `deltas` too if `hear_deltas` was called before."""
        listener = Listener(wanted, start=self.position, frames_max=self._frames_max, bytes_max=self._bytes_max)
        keys = [(wanted.workspace, run) for run in wanted.runs or ("*",)]
        groups = [self._listeners, self._delta_listeners] if deltas else [self._listeners]
        for group in groups:
            for key in keys:
                group[key].add(listener)
        try:
            yield listener
        finally:
            for group in groups:
                for key in keys:
                    group[key].discard(listener)
                    if not group[key]:
                        del group[key]

    async def hear_deltas(self) -> None:
        """Begin to hear token deltas, if not begun yet; raises LogUnavailable."""
        if self._deltas is None:
            self._deltas = await self.bus.subscribe(DELTAS, self._take_delta)

    async def close(self) -> None:
        """Hear no more deltas."""
        if self._deltas is not None:
            await self._deltas.unsubscribe()

    async def _end(self) -> int:
        while True:
            try:
                return await self.facts.end()
            except LogUnavailable:
                if self.bus.closed.is_set():
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    def _hand_out(self, batch: list[Record]) -> None:
        """Nothing here may wait: who joins must find the position and the queues in step."""
        for record in batch:
            frame: Frame | None = None
            for listener in self._who(self._listeners, record.address.workspace, record.address.run):
                if listener.wanted.takes(record):
                    frame = frame or frame_of(record)
                    listener.push(frame)
            self.position = record.seq

    @staticmethod
    def _who(group: dict[tuple[str, str], set[Listener]], workspace: str, run: str) -> Iterator[Listener]:
        yield from group.get((workspace, run), ())
        yield from group.get((workspace, "*"), ())

    def _take_delta(self, msg: Msg) -> None:
        try:
            address = parse_delta(msg.subject)
            told = msgspec.json.decode(msg.body, type=_Delta)
        except (ValueError, msgspec.DecodeError):
            return
        frame: Frame | None = None
        for listener in self._who(self._delta_listeners, address.workspace, address.run):
            frame = frame or _delta_frame(address.run, address.step, told)
            listener.push(frame)


class _Delta(msgspec.Struct, frozen=True):
    turn: int
    text: str


def _delta_frame(run: str, step: str, told: _Delta) -> Frame:
    data = msgspec.json.encode({"run": run, "step": step, "turn": told.turn, "text": told.text})
    return Frame(0, run, "delta", data)
