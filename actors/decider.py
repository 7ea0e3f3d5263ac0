"""The shape of every actor: an initial value and pure functions. No I/O, clock or randomness: time comes in with the command.

`decide` answers a command with facts, `evolve` takes a stored fact in, `pending` tells what was asked and is not answered,
`create` makes the first fact of an actor that is wanted, `route` names who must act on a fact, `open_actors` whom the actor waits for.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from events.envelope import Record
from events.fact import Fact
from events.subjects import Address


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something an actor is to decide on; `now_ms` is the time of the decision, `ticket` the notice in the turn's hand (0: none)."""

    id: str
    now_ms: int
    ticket: int = 0


class Advance(Command, frozen=True, kw_only=True):
    """Go on, if there is anything to go on with."""


class TakeOver(Command, frozen=True, kw_only=True):
    """The ticket in hand was delivered before, and whoever had it does not answer."""


class Nudge(Command, frozen=True, kw_only=True):
    """The watch asks: is your ticket lost? `floors` are the ack floors of the work queues by name."""

    floors: dict[str, int]


class Cancel(Command, frozen=True, kw_only=True):
    """Stop."""

    by: str
    reason: str = ""


class Terminate(Cancel, frozen=True, kw_only=True):
    """Stop at once, without waiting for what is open to stop."""


class Pause(Command, frozen=True, kw_only=True):
    """Ask nothing new. `at` is the sequence of the fact above that this follows, so that an older word never undoes a newer one."""

    by: str
    reason: str = ""
    at: int = 0


class Resume(Pause, frozen=True, kw_only=True):
    """Go on. `at` as in Pause."""


class TimerFired(Command, frozen=True, kw_only=True):
    """A timer is due; one that nobody asked for is ignored."""

    timer: str


def timer_command(timer: str, asked: int) -> str:
    """Return the id of the command that a timer sends, asked for by the fact at `asked`."""
    return f"cmd_timer-{timer}-{asked}"


def is_due(command: Command, *, asked: int, at_ms: int) -> bool:
    """Tell whether a timer's time has come: the timer that was asked for is believed, whatever this worker's clock says."""
    fired = isinstance(command, TimerFired) and command.id == timer_command(command.timer, asked)
    return at_ms > 0 and (fired or command.now_ms >= at_ms)


class TurnRaised(Command, frozen=True, kw_only=True):
    """A turn on `message` raised `error`."""

    message: str
    error: str


class Refused(Exception):
    """The actor's answer is no. `code` is stable; `recorded` is what stands in the log instead, if anything."""

    def __init__(self, code: str, reason: str, recorded: Any = None) -> None:
        self.code = code
        self.recorded = recorded
        super().__init__(reason)


class Perform(msgspec.Struct, frozen=True):
    """An effect that the holder of `ticket` performs, in this `epoch`; `probe`: it asks what became of one that was cut off.

    `begun`: only who stored that it begins may perform it.
    """

    ticket: int
    epoch: int
    probe: bool = False
    begun: bool = False


class Want(msgspec.Struct, frozen=True):
    """Another actor is to exist; `asked` is the sequence of the fact that asked for it."""

    asked: int
    address: Address


class Create(msgspec.Struct, frozen=True):
    """The first fact of another actor, made for a Want: it can be large, so it is made only when it is handed over."""

    asked: int
    address: Address
    fact: Fact
    to: str


class Send(msgspec.Struct, frozen=True):
    """A command to another actor, under an id that stays the same however often it is sent."""

    asked: int
    address: Address
    verb: str
    id: str
    body: dict[str, Any]


class Schedule(msgspec.Struct, frozen=True):
    """A timer of this actor: at `at_ms` its command `timer` comes with this timer's name."""

    asked: int
    timer: str
    at_ms: int


HandOver = Create | Send | Schedule
Request = Perform | Want | Send | Schedule

State = TypeVar("State")


class Decider(msgspec.Struct, Generic[State], frozen=True):
    """An actor, as a value."""

    initial: Callable[[Address], State]
    decide: Callable[[State, Command], list[Fact]]
    evolve: Callable[[State, Record], State]
    pending: Callable[[State], list[Request]]
    create: Callable[[State, Want], Create]
    route: Callable[[State, Fact], str]
    open_actors: Callable[[State], list[Address]]


class Seen(msgspec.Struct, frozen=True):
    """What every actor's state knows of itself: its version, its last sequence, the commands it took."""

    version: int = 0
    last: int = 0
    commands: frozenset[str] = frozenset()
    turns_failed: dict[str, int] = {}

    def take(self, record: Record) -> "Seen":
        """Return this with one more of the actor's own facts taken in."""
        commands = self.commands
        if record.causation and not record.causation.isdigit():
            commands = commands | {record.causation}
        return Seen(version=record.version, last=record.seq, commands=commands, turns_failed=self.turns_failed)

    def failed(self, message: str) -> "Seen":
        """Return this with one more failed turn on `message` counted."""
        return msgspec.structs.replace(
            self, turns_failed={**self.turns_failed, message: self.turns_failed.get(message, 0) + 1}
        )


TURNS_FAILED_MAX = 5
"""A turn that raised so often on one message is a dead letter."""


def fold(decider: Decider[State], address: Address, records: list[Record]) -> State:
    """Return the state that `records` lead to."""
    state = decider.initial(address)
    for record in records:
        state = decider.evolve(state, record)
    return state
