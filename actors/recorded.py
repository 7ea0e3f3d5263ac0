"""A recorded run through today's code: every fact is folded, and every decision that the record tells enough of is made again. Pure.

Nothing is called or sent. What today's code would say otherwise is a difference, and the first one ends the walk.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, cast

import msgspec
from msgspec.structs import replace

from actors.agent import AGENT
from actors.dead_letter import LETTER, LetterState
from actors.decider import Command, Decider, Refused, Want
from actors.rebuilt import commands, times
from actors.run import RUN
from actors.tool import TOOL
from actors.workspace_budget import WORKSPACE
from events import codec
from events.envelope import Record
from events.fact import Fact, name_of, type_of
from events.run import RunChildEnded
from events.subjects import ActorKind, Address

DECIDERS: Final[dict[ActorKind, Decider[Any]]] = {"run": RUN, "agent": AGENT, "tool": TOOL, "budget": WORKSPACE}
LATE_MS_MAX: Final = 1000
"""How long before it was stored a decision is looked for."""
SHOWN_CHARS_MAX: Final = 4000
RAISED: Final = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What deciders raise where a record does not fit them."""

What = Literal["decode", "order", "version", "fold", "decision", "addressee", "hand-over"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where today's code says something else than the record: what stands there, and what would today."""

    seq: int
    actor: str
    what: What
    recorded: str
    today: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk found. `decided` counts decisions made again, `handed` first facts of actors made again.

    `folded` counts by type what could only be folded; `states` has the digest of each actor's last state.
    """

    records: int
    actors: int
    decided: int
    handed: int
    folded: dict[str, int]
    states: dict[str, str]
    difference: Difference | None = None


class Unreadable(Exception):
    """A record that today's code cannot decode."""

    def __init__(self, seq: int, subject: str, body: str, fault: str) -> None:
        actor = ".".join(subject.split(".")[3:6])
        recorded = body[:SHOWN_CHARS_MAX]
        self.difference = Difference(seq=seq, actor=actor, what="decode", recorded=recorded, today=fault)
        super().__init__(fault)


class _Actor:
    """One actor on the walk. `states` are those since its last own fact, the newest last: a decision was made on one of them."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.decider = _decider(address)
        self.states: list[Any] = [self.decider.initial(address)]
        self.version = 0
        self.expected: list[Fact] = []
        self.wanted: dict[Address, Fact] = {}

    @property
    def state(self) -> Any:
        return self.states[-1]

    def take(self, record: Record) -> None:
        after = self.decider.evolve(self.state, record)
        if record.address == self.address:
            self.states = [after]
            self.version = record.version
        else:
            self.states.append(after)
        for one in self.decider.pending(after):
            if isinstance(one, Want) and one.asked == record.seq and (made := self._made(after, one)) is not None:
                self.wanted[one.address] = made

    def makes(self, address: Address) -> Iterator[Fact]:
        """Yield the first facts that this actor makes for the one it wants: when it asked, or later."""
        if (early := self.wanted.pop(address, None)) is not None:
            yield early
        for state in reversed(self.states):
            for one in self.decider.pending(state):
                if isinstance(one, Want) and one.address == address and (made := self._made(state, one)) is not None:
                    yield made

    def _made(self, state: Any, want: Want) -> Fact | None:
        """Return the first fact that is made for a want, None where making it raises: then the turn had raised too."""
        try:
            return self.decider.create(state, want).fact
        except RAISED:
            return None


class _Found(Exception):
    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        super().__init__(difference.what)


class Walk:
    """The walk over one run's records, in the order of the log."""

    def __init__(self) -> None:
        self.actors: dict[Address, _Actor] = {}
        self.by_seq: dict[int, Record] = {}
        self.children: dict[str, RunChildEnded] = {}
        self.decided = 0
        self.handed = 0
        self.folded: Counter[str] = Counter()
        self.last = 0

    def take(self, record: Record) -> None:
        """Take the next record in; raises _Found at a difference."""
        if record.seq <= self.last:
            raise _found(record, "order", f"after #{self.last}", "sequences grow")
        self.last = record.seq
        actor = self._actor(record.address)
        if record.version != actor.version + 1:
            raise _found(record, "version", str(record.version), str(actor.version + 1))
        self._check(actor, record)
        self.by_seq[record.seq] = record
        if isinstance(record.fact, RunChildEnded):
            self.children[record.fact.child] = record.fact
        for one in self._folding(record):
            try:
                one.take(record)
            except Exception as fault:
                raise _found(record, "fold", _shown(record.fact), f"{type(fault).__name__}: {fault}") from fault

    def report(self, difference: Difference | None = None) -> Report:
        """Return what was found so far."""
        return Report(
            records=len(self.by_seq),
            actors=len(self.actors),
            decided=self.decided,
            handed=self.handed,
            folded=dict(sorted(self.folded.items())),
            states={_name(address): digest(actor.state) for address, actor in sorted(self.actors.items())},
            difference=difference,
        )

    def _actor(self, address: Address) -> _Actor:
        return self.actors.setdefault(address, _Actor(address))

    def _folding(self, record: Record) -> Iterator[_Actor]:
        yield self._actor(record.address)
        if record.address.kind == "tool" and record.address.step != "-":
            yield self._actor(record.address.at(record.address.step))

    def _check(self, actor: _Actor, record: Record) -> None:
        if actor.expected:
            today = actor.expected.pop(0)
            if not _same(today, record.fact):
                raise _found(record, "decision", _shown(record.fact), _shown(today))
            self.decided += 1
        elif record.version == 1 and record.address.kind != "run" and record.address.run != "-":
            self._check_handed(record)
        else:
            self._check_decided(actor, record)
        to = actor.decider.route(actor.state, record.fact)
        if record.to not in (to, "-"):
            raise _found(record, "addressee", record.to, to)

    def _check_handed(self, record: Record) -> None:
        """An actor's first fact is made by the one that wants it."""
        above = record.address.at(record.address.step if record.address.kind == "tool" else "-")
        made = list(self._actor(above).makes(record.address))
        if not made:
            self.folded[record.type] += 1
        elif not any(_same(each, record.fact) for each in made):
            raise _found(record, "hand-over", _shown(record.fact), _shown(made[0]))
        else:
            self.handed += 1

    def _check_decided(self, actor: _Actor, record: Record) -> None:
        near: list[list[Fact]] = []
        for now_ms in times(record):
            for facts in self._decisions(actor, record, now_ms):
                if _same(facts[0], record.fact):
                    self.decided += 1
                    actor.expected = facts[1:]
                    return
                if type(facts[0]) is type(record.fact):
                    near.append(facts)
        if near and self._later(actor, record):
            return
        if near:
            raise _found(record, "decision", _shown(record.fact), _shown(near[0][0]))
        self.folded[record.type] += 1

    def _later(self, actor: _Actor, record: Record) -> bool:
        """Look for the decision in the time before it was stored: dues are counted from when it was made."""
        for now_ms in range(record.time_ms - 1, record.time_ms - LATE_MS_MAX, -1):
            for facts in self._decisions(actor, record, now_ms):
                if _same(facts[0], record.fact):
                    self.decided += 1
                    actor.expected = facts[1:]
                    return True
        return False

    def _decisions(self, actor: _Actor, record: Record, now_ms: int) -> Iterator[list[Fact]]:
        """Yield what today's code decides on the commands that the record may have come of, where it decides anything."""
        notice = self.by_seq.get(int(record.causation)) if record.causation.isdigit() else None
        for state in reversed(actor.states):
            for command in commands(record, notice, now_ms, children=self.children):
                try:
                    facts = actor.decider.decide(state, command)
                except (Refused, *RAISED):
                    continue
                if facts:
                    yield facts


def walk(records: Iterable[Record]) -> Report:
    """Return what today's code makes of a recorded run; `records` may raise Unreadable."""
    one = Walk()
    try:
        for record in records:
            one.take(record)
    except (_Found, Unreadable) as found:
        return one.report(found.difference)
    return one.report()


def _decider(address: Address) -> Decider[Any]:
    if address.run == "-" and address.kind != "budget":
        return LETTER if address.step.startswith("dlq_") else OTHER
    return DECIDERS[address.kind]


def _nothing(state: LetterState, command: Command) -> list[Fact]:
    del state, command
    return []


def _unmoved(state: LetterState, record: Record) -> LetterState:
    del record
    return state


OTHER: Final = replace(LETTER, decide=_nothing, evolve=_unmoved)
"""What is read by doors and decided by none, as an idempotency key is."""


def digest(state: Any) -> str:
    """Return what tells two states apart; fields at their defaults don't count, so that a new one changes no old state."""
    return sha256(msgspec.json.encode(_plain(state), order="deterministic")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
        told = {field.name: _plain(each) for field, each in fields if not _is_default(field, each)}
        return {"is": type(value).__name__, **told}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    if isinstance(value, set | frozenset):
        return sorted(str(each) for each in cast("frozenset[Any]", value))
    return value


def _is_default(field: Any, value: Any) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(value == field.default)


def _same(today: Fact, recorded: Fact) -> bool:
    return type(today) is type(recorded) and (
        today == recorded or codec.decode(codec.encode(today), type_of(today)) == recorded
    )


def _found(record: Record, what: What, recorded: str, today: str) -> _Found:
    return _Found(Difference(seq=record.seq, actor=_name(record.address), what=what, recorded=recorded, today=today))


def _name(address: Address) -> str:
    return f"{address.run}.{address.step}.{address.call}"


def _shown(fact: Fact) -> str:
    return f"{name_of(fact)} {codec.encode(fact).decode(errors='replace')}"[:SHOWN_CHARS_MAX]
