"""A run as its watcher knows it: a pure fold of the events that came over the stream, made for showing."""

from typing import Literal

import msgspec

from events.budget import BudgetExhausted
from events.codec import BrokenFact, UnknownFact, decode
from events.envelope import Envelope, Record, from_rfc3339
from events.fact import Artifact, Fact, Usage
from events.run import RunCanceled, RunEnd, RunFailed, RunSucceeded, RunTimedOut

SCRIPTED = "scripted"
PAST_MAX = 8

StepStatus = Literal["pending", "running", "waiting", "succeeded", "failed", "canceled", "skipped"]


class Event(msgspec.Struct, frozen=True):
    """A fact with its place and time, however it came here: `step` and `call` are places in subjects, `-` for none."""

    seq: int
    time_ms: int
    step: str
    call: str
    fact: Fact


class Call(msgspec.Struct, frozen=True):
    """A tool call under way, in words."""

    words: str
    waits: bool = False
    check: bool = False


class Ask(msgspec.Struct, frozen=True):
    """A human is asked."""

    id: str
    kind: str
    key: str
    role: str
    tool: str
    arguments: bytes
    risk: str
    digest: str
    allowed: tuple[str, ...]
    since_ms: int


class Paused(msgspec.Struct, frozen=True):
    """The run is paused."""

    by: str
    reason: str
    since_ms: int


class Past(msgspec.Struct, frozen=True):
    """Something that went wrong on the way, kept in sight: a failed attempt, a round of a gate, a conflict."""

    sign: str
    text: str


class Step(msgspec.Struct, frozen=True):
    """How a step stands; an `extra` one is in no plan: it makes the plan. Times are ms since the epoch, 0 for not yet."""

    key: str
    role: str
    title: str = ""
    needs: tuple[str, ...] = ()
    gate: bool = False
    extra: bool = False
    status: StepStatus = "pending"
    attempt: int = 0
    attempts_max: int = 0
    fallback: bool = False
    retry_ms: int = 0
    turn: int = 0
    thinking: bool = False
    calls: dict[str, Call] = {}
    past: tuple[Past, ...] = ()
    usage: Usage = Usage()
    note: str = ""
    started_ms: int = 0
    ended_ms: int = 0


class Board(msgspec.Struct, frozen=True):
    """One run. `seq` is the last event taken in, `children` the runs under it with their ends, empty for none yet."""

    run: str
    goal: str = ""
    blueprint: str = ""
    model: str = ""
    planned: bool = False
    started: bool = False
    canceling: bool = False
    paused: Paused | None = None
    children: dict[str, str] = {}
    short: frozenset[str] = frozenset()
    budget: BudgetExhausted | None = None
    end: RunEnd | None = None
    steps: dict[str, Step] = {}
    actors: dict[str, str] = {}
    asks: dict[str, Ask] = {}
    artifacts: dict[str, Artifact] = {}
    denials: tuple[str, ...] = ()
    usage: Usage = Usage()
    turns: int = 0
    calls: int = 0
    first_ms: int = 0
    last_ms: int = 0
    seq: int = 0

    @property
    def status(self) -> str:
        """The run's state word."""
        match self.end:
            case RunSucceeded():
                return "succeeded"
            case RunCanceled():
                return "canceled"
            case RunTimedOut():
                return "timed_out"
            case RunFailed(code=code):
                return "timed_out" if code == "timed_out" else "failed"
            case None:
                return self._status_under_way()

    def _status_under_way(self) -> str:
        open_ = [step for step in self.steps.values() if step.status in ("running", "waiting")]
        if self.paused is not None:
            return "paused"
        if not self.started:
            return "queued"
        if self.budget is not None:
            return "needs_input"
        if any(step.status == "waiting" and not step.calls for step in open_):
            return "needs_input"
        retrying = any(step.status == "pending" and step.retry_ms for step in self.steps.values())
        if (open_ or retrying) and all(step.status == "waiting" for step in open_):
            return "waiting"
        return "running" if self.planned else "planning"

    @property
    def pretended(self) -> bool:
        """Whether tokens and cost are a script's, not a provider's."""
        return self.model == SCRIPTED

    @property
    def progress(self) -> tuple[int, int]:
        """How many steps of the plan have succeeded, and how many there are."""
        planned = [step for step in self.steps.values() if not step.extra]
        return sum(step.status == "succeeded" for step in planned), len(planned)

    def key_of(self, step: str) -> str:
        """Return the key of the step whose attempt stands at `step`; empty for the run itself."""
        return self.actors.get(step) or self.actors.get(step.partition("-")[0], "")


def event_of(envelope: Envelope) -> Event | None:
    """Return what an envelope holds; None if its type is newer than this program."""
    try:
        fact = decode(bytes(envelope.data), envelope.type)
    except (UnknownFact, BrokenFact):
        return None
    return Event(envelope.seq, from_rfc3339(envelope.time), envelope.step, envelope.call, fact)


def event_of_record(record: Record) -> Event:
    """Return a record as an event."""
    return Event(record.seq, record.time_ms, record.address.step, record.address.call, record.fact)
