"""What must hold after a campaign, read from the log and the target alone: one line per invariant, with its counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from events.agent import ModelResponded
from events.envelope import Record
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
)
from tests.chaos.load import ENDS, Accepted
from tests.chaos.script import TOOLS
from tests.chaos.target import DONE
from tests.invariants_budget import Books, BudgetBroken

SHOWN_MAX = 5
ENDS_OF_CALL = (ToolCompleted, ToolFailed, ToolCanceled)
TERMINAL = frozenset(
    {
        *(name.removesuffix(".v1") for name in ENDS),
        *(f"agent.{end}" for end in ("succeeded", "failed", "canceled")),
        *(f"tool.{end}" for end in ("completed", "failed", "canceled")),
    }
)
RETRIED = frozenset({"tool.attempt_failed", "model.failed"})
ACCEPTS_STEP = frozenset({"step.succeeded", "gate.passed", "step.canceled"})


class Line(msgspec.Struct, frozen=True):
    """An invariant: how much was looked at, what broke it."""

    name: str
    looked: str
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = "".join(f"\n      {one}" for one in self.broken[:SHOWN_MAX])
        return (
            f"{'ok  ' if not self.broken else 'FAIL'} {self.name}: {self.looked}, {len(self.broken)} violations{shown}"
        )


class Effect(msgspec.Struct, frozen=True):
    """A line of the target's ledger."""

    op: str
    effect: str
    kind: str
    what: str


class Call(msgspec.Struct):
    """What the log says of one tool call."""

    address: Address
    request: ToolRequested
    started: list[Record]
    ends: list[Record]
    decided: list[tuple[int, ApprovalDecided]]
    unknown: bool = False

    @property
    def effect(self) -> str:
        return f"{self.address.run}.{self.address.call}"


def name_of(record: Record) -> str:
    return record.type.removesuffix(".v1")


def calls_of(records: Sequence[Record]) -> dict[Address, Call]:
    found: dict[Address, Call] = {}
    for record in records:
        fact = record.fact
        if isinstance(fact, ToolRequested):
            found[record.address] = Call(record.address, fact, [], [], [])
            continue
        call = found.get(record.address)
        if call is None:
            continue
        match fact:
            case ToolStarted() if not call.unknown:  # later ones are the probe's
                call.started.append(record)
            case ToolCompleted() | ToolFailed() | ToolCanceled():
                call.ends.append(record)
            case ApprovalDecided() as decided:
                call.decided.append((record.seq, decided))
            case ToolOutcomeUnknown():
                call.unknown = True
            case _:
                pass
    return found


def check(records: Sequence[Record], effects: Sequence[Effect], accepted: Sequence[Accepted]) -> list[Line]:
    """Return a line for each invariant that the log and the target can prove."""
    calls = calls_of(records)
    return [
        lost(records, accepted),
        versions(records),
        outcomes(records, calls),
        after_the_end(records),
        booked(records),
        stuck(records),
        approved(calls),
        duplicated(effects),
        claimed(calls, effects),
        unknowns(calls, effects),
        reissued(records),
        raised(records),
    ]


def lost(records: Sequence[Record], accepted: Sequence[Accepted]) -> Line:
    """Every 202 answer is a run in the log, each key one run and each run a key's."""
    runs = {record.address.run for record in records if name_of(record) == "run.requested"}
    answers: dict[str, set[str]] = defaultdict(set)
    for one in accepted:
        answers[one.key].add(one.run)
    broken = [f"lost: {one.key} was answered {one.run}" for one in accepted if one.run not in runs]
    broken += [f"key {key} made {len(ids)} runs" for key, ids in answers.items() if len(ids) > 1]
    broken += [f"nobody was told of {run}" for run in sorted(runs - {one.run for one in accepted})]
    return Line("accepted runs are in the log", f"{len(accepted)} accepted, {len(runs)} in the log", tuple(broken))


def versions(records: Sequence[Record]) -> Line:
    """I1: an actor's versions are 1, 2, 3, ..."""
    last: dict[Address, int] = defaultdict(int)
    broken: list[str] = []
    for record in records:
        if record.version != last[record.address] + 1:
            broken.append(f"{record.seq} {record.address}: version {record.version} after {last[record.address]}")
        last[record.address] = record.version
    return Line("I1 versions without gaps", f"{len(last)} actors, {len(records)} facts", tuple(broken))


def outcomes(records: Sequence[Record], calls: dict[Address, Call]) -> Line:
    """I3: a call, a turn of a model, an attempt at a step have one accepted outcome at most."""
    broken = [f"{call.address}: {[name_of(one) for one in call.ends]}" for call in calls.values() if len(call.ends) > 1]
    turns = Counter((one.address, one.fact.turn) for one in records if isinstance(one.fact, ModelResponded))
    broken += [f"{address} turn {turn}: {count} answers" for (address, turn), count in turns.items() if count > 1]
    steps = Counter(
        (one.address, getattr(one.fact, "key", ""), getattr(one.fact, "attempt", 0))
        for one in records
        if name_of(one) in ACCEPTS_STEP
    )
    broken += [f"{key}: accepted {count} times" for key, count in steps.items() if count > 1]
    uses = Counter(
        (call.address.run, call.address.step, call.request.use) for call in calls.values() if call.request.use
    )
    broken += [f"{use}: {count} calls of one use" for use, count in uses.items() if count > 1]
    looked = f"{len(calls)} calls, {len(turns)} model turns, {len(steps)} attempts"
    return Line("I3 one accepted outcome each", looked, tuple(broken))


def after_the_end(records: Sequence[Record]) -> Line:
    """I4: after a terminal fact come only `refused` ones."""
    ended: dict[Address, str] = {}
    broken: list[str] = []
    for record in records:
        name = name_of(record)
        if record.address in ended and not name.endswith(".refused"):
            broken.append(f"{record.seq} {record.address}: {name} after {ended[record.address]}")
        if name in TERMINAL:
            ended.setdefault(record.address, name)
    return Line("I4 nothing after the end", f"{len(ended)} ended actors", tuple(broken))


def booked(records: Sequence[Record]) -> Line:
    """I5: what is reserved and spent never passes a budget."""
    books = Books()
    broken: list[str] = []
    for record in records:
        try:
            books.take(record)
        except BudgetBroken as fault:
            broken.append(str(fault))
    return Line("I5 within the budget", f"{len(books.purses)} budgets, {books.checked} bookings", tuple(broken))


def stuck(records: Sequence[Record]) -> Line:
    """I6 at the end: nothing waits any more, so every run has ended, and nothing of an ended run is open."""
    last: dict[str, str] = {}
    open_: dict[Address, str] = {}
    for record in records:
        name = name_of(record)
        if record.address.run == "-":
            continue
        last[record.address.run] = name
        if name in TERMINAL:
            open_.pop(record.address, None)
        elif not name.endswith(".refused"):
            open_[record.address] = name
    runs = [address for address in open_ if address.kind == "run"]
    broken = [f"{run.run} has not ended; its last fact is {last[run.run]}" for run in runs]
    waiting = {run.run for run in runs}
    broken += [
        f"{address}: still open at {name} in an ended run"
        for address, name in open_.items()
        if address.run not in waiting and address.kind != "run" and name != "tool.outcome_unknown"
    ]
    return Line("I6 nothing stuck", f"{len(last)} runs", tuple(broken))


def approved(calls: dict[Address, Call]) -> Line:
    """I7: what needed a human was started or completed only after exactly one yes; each question has one decision at most."""
    gated = [call for call in calls.values() if call.request.approval]
    broken: list[str] = []
    for call in gated:
        first = min((one.seq for one in (*call.started, *_completed(call))), default=0)
        yes = [seq for seq, decided in call.decided if decided.decision in ("approve", "edit")]
        twice = len({decided.approval for _, decided in call.decided}) < len(call.decided)
        if twice or (first and not (len(yes) == 1 and yes[0] < first)):
            broken.append(f"{call.address}: {len(call.decided)} decisions, performed at {first}")
    return Line("I7 approved before performed", f"{len(gated)} gated calls", tuple(broken))


def _completed(call: Call) -> list[Record]:
    return [one for one in call.ends if isinstance(one.fact, ToolCompleted)]


def duplicated(effects: Sequence[Effect]) -> Line:
    """No keyed or unsafe effect happened twice at the target, by its id or by what it was for; no unsafe one was asked twice."""
    once = [one for one in effects if one.kind in ("keyed", "unsafe") and one.what == DONE]
    broken: list[str] = []
    for field in ("effect", "op"):
        counted = Counter((one.kind, getattr(one, field)) for one in once)
        broken += [f"{kind} {field} {name}: {count} times" for (kind, name), count in counted.items() if count > 1]
    asked = Counter(one.effect for one in effects if one.kind == "unsafe" and one.what == "asked")
    broken += [f"unsafe effect {name}: asked {count} times" for name, count in asked.items() if count > 1]
    again = Counter(one.kind for one in effects if one.what == "again")
    looked = f"{len(once)} keyed and unsafe effects, {again['keyed']} repeats met by their key"
    return Line("no duplicated effect at the target", looked, tuple(broken))


def claimed(calls: dict[Address, Call], effects: Sequence[Effect]) -> Line:
    """What the log says was done was done, and what was done the log knows of."""
    done = {one.effect for one in effects if one.what == DONE}
    ours = [call for call in calls.values() if call.request.tool in TOOLS]
    broken = [
        f"{call.address}: completed, and the target saw nothing"
        for call in ours
        if _completed(call) and call.effect not in done
    ]
    known = {call.effect for call in ours}
    broken += [f"{one.effect}: an effect without a call" for one in effects if one.effect not in known]
    broken += [
        f"{call.address}: performed, and the log says nothing of a start"
        for call in ours
        if call.request.effect in ("keyed", "unsafe") and call.effect in done and not call.started
    ]
    return Line("log and target agree", f"{len(ours)} calls, {len(done)} effects", tuple(broken))


def unknowns(calls: dict[Address, Call], effects: Iterable[Effect]) -> Line:
    """An unsafe call that began and did not answer is told as of unknown outcome."""
    begun = [call for call in calls.values() if call.request.effect == "unsafe" and call.started]
    done = {one.effect for one in effects if one.what == DONE}
    cut = [call for call in begun if not _completed(call) and (call.effect in done or not _undone(call))]
    broken = [f"{call.address}: cut off, and told as {_told(call)}" for call in cut if not _says_unknown(call)]
    broken += [
        f"{call.address}: {len(call.started)} starts of an unsafe call" for call in begun if len(call.started) > 1
    ]
    broken += [
        f"{call.address}: told as not done, and the target did it"
        for call in begun
        if call.effect in done and "not_done" in _codes(call)
    ]
    happened = sum(call.effect in done for call in cut)
    looked = f"{len(begun)} unsafe calls begun, {len(cut)} cut off ({happened} of them had happened)"
    return Line("unknown outcomes are told", looked, tuple(broken))


def _undone(call: Call) -> bool:
    """Tell whether the performer itself said that nothing was done."""
    return not {"target_away", "canceled"}.isdisjoint(_codes(call))


def _says_unknown(call: Call) -> bool:
    return call.unknown or "outcome_unknown" in _codes(call)


def _codes(call: Call) -> list[str]:
    return [one.fact.code for one in call.ends if isinstance(one.fact, ToolFailed)]


def _told(call: Call) -> str:
    return ", ".join(f"{name_of(one)} {getattr(one.fact, 'code', '')}" for one in call.ends) or "nothing"


def reissued(records: Sequence[Record]) -> Line:
    """No ticket was lost; the next attempt after one that failed is issued by the same fact, and is none of these."""
    last: dict[Address, str] = {}
    found: list[str] = []
    for record in records:
        name = name_of(record)
        if name.endswith(".reissued") and last.get(record.address) not in RETRIED:
            found.append(f"{record.seq} {record.address}: {name}")
        last[record.address] = name
    return Line("no reissued tickets", f"{len(records)} facts", tuple(found))


def raised(records: Sequence[Record]) -> Line:
    """No turn raised: that would be a bug of the engine, whatever breaks around it."""
    found = [
        f"{one.seq} {one.address}: {getattr(one.fact, 'error', '')[:300]}"
        for one in records
        if name_of(one).endswith(".turn_failed")
    ]
    return Line("no turn raised", f"{len(records)} facts", tuple(found))
