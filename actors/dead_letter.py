"""The dead letter actor: recorded once, then replayed or purged, once. It folds its own facts only. Pure."""

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from actors.decider import Command, Create, Decider, Refused, Request, Seen, Want
from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed, Way
from events.envelope import Record
from events.fact import Fact
from events.subjects import Address

JUNK: Final = frozenset({"command", "timer"})
"""Sources whose messages may come again word for word: such a letter, once closed, is opened by the next one."""

Status = Literal["", "open", "replayed", "purged"]


class RecordLetter(Command, frozen=True, kw_only=True):
    """Something died."""

    letter: DeadLetterRecorded


class CloseReplayed(Command, frozen=True, kw_only=True):
    """The letter was replayed in this way; `made` came of it."""

    by: str
    way: Way
    made: tuple[str, ...]


class Purge(Command, frozen=True, kw_only=True):
    """Nothing is to be done."""

    by: str


class LetterState(msgspec.Struct, frozen=True):
    """One dead letter. `seq` and `recorded_ms` are of the last time it was recorded, `times` counts them."""

    address: Address
    seen: Seen = Seen()
    letter: DeadLetterRecorded | None = None
    status: Status = ""
    seq: int = 0
    recorded_ms: int = 0
    times: int = 0
    replayed: DeadLetterReplayed | None = None
    by: str = ""
    closed_ms: int = 0
    end: None = None

    @property
    def id(self) -> str:
        return self.address.step


def initial(address: Address) -> LetterState:
    return LetterState(address=address)


def decide(state: LetterState, command: Command) -> list[Fact]:
    """Answer a command; raises Refused for a letter that is closed another way, or is not there."""
    match command:
        case RecordLetter(letter=letter):
            again = letter.source in JUNK and state.status != "open"
            return [letter] if state.letter is None or again else []
        case CloseReplayed() | Purge() if state.letter is None:
            raise Refused("dead_letter_not_found", "there is no such dead letter")
        case CloseReplayed(by=by, way=way, made=made):
            if state.status == "purged":
                raise Refused("purged", f"{state.by} purged it", recorded=DeadLetterPurged(by=state.by))
            return [DeadLetterReplayed(by=by, way=way, made=made)] if state.status == "open" else []
        case Purge(by=by):
            if state.status == "replayed":
                raise Refused("replayed", f"{state.by} replayed it", recorded=state.replayed)
            return [DeadLetterPurged(by=by)] if state.status == "open" else []
        case _:
            return []


def evolve(state: LetterState, record: Record) -> LetterState:
    """Take a stored fact in."""
    state = replace(state, seen=state.seen.take(record))
    match record.fact:
        case DeadLetterRecorded() as fact:
            return replace(
                state,
                letter=fact,
                status="open",
                seq=record.seq,
                recorded_ms=record.time_ms,
                times=state.times + 1,
                replayed=None,
                by="",
                closed_ms=0,
            )
        case DeadLetterReplayed() as fact:
            return replace(state, status="replayed", replayed=fact, by=fact.by, closed_ms=record.time_ms)
        case DeadLetterPurged(by=by):
            return replace(state, status="purged", by=by, closed_ms=record.time_ms)
        case _:
            return state


def pending(state: LetterState) -> list[Request]:
    del state
    return []


def create(state: LetterState, want: Want) -> Create:
    raise ValueError(f"a dead letter creates no actor: {state.address} does not want {want.address}")


def route(state: LetterState, fact: Fact) -> str:
    del state, fact
    return "-"


def open_actors(state: LetterState) -> list[Address]:
    del state
    return []


LETTER: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
