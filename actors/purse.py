"""What a run knows of its budget: the whole, what its attempts hold and used, who asked and waits. A pure fold of its facts.

A run without a budget has no purse.
"""

from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from actors import budget
from events.budget import (
    Amount,
    Budget,
    BudgetAllotted,
    BudgetClaimed,
    BudgetExhausted,
    BudgetGranted,
    BudgetQueued,
    BudgetRaised,
    BudgetReserved,
    BudgetReturned,
    BudgetShort,
    Grant,
)
from events.envelope import Record
from events.fact import Usage
from events.run import (
    GateFailed,
    GatePassed,
    PlanAccepted,
    RunRequested,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepStarted,
    StepSucceeded,
)

Held = TypeVar("Held")
Closed: Final = (PlanAccepted, StepSucceeded, StepConflicted, StepFailed, StepCanceled, GatePassed, GateFailed)


class Given(msgspec.Struct, frozen=True):
    """What an attempt was granted when it asked, and the fact that says so."""

    seq: int
    fact: BudgetGranted


class Answer(msgspec.Struct, frozen=True):
    """What a run below was told last: the fact that says so, the claim it answers, and the grant, None while it waits."""

    seq: int
    claim: int
    grant: Grant | None


class Purse(msgspec.Struct, frozen=True):
    """`holds` is the whole grant of each open attempt, `used` what closed ones took, `asks` the attempts that wait, `returned`
    the runs below that handed back.
    """

    total: Budget
    requested_ms: int
    until_seq: int
    used: Amount = Amount()
    holds: dict[str, Grant] = {}
    asks: dict[str, BudgetShort] = {}
    short: frozenset[str] = frozenset()
    given: dict[str, Given] = {}
    asked: dict[str, int] = {}
    exhausted: BudgetExhausted | None = None
    exhausted_ms: int = 0
    pooled: tuple[str, ...] = ()
    allot: Grant | None = None
    claim: BudgetClaimed | None = None
    claim_seq: int = 0
    line: dict[str, BudgetQueued] = {}
    told: dict[str, Answer] = {}
    returned: frozenset[str] = frozenset()

    @property
    def until(self) -> int:
        """When the wall time is over, in ms since the epoch; 0 for never."""
        seconds = self.total.wall_seconds
        return 0 if seconds is None else self.requested_ms + seconds * 1000

    def over(self, now_ms: int) -> bool:
        """Tell whether the wall time is over."""
        return 0 < self.until <= now_ms

    @property
    def committed(self) -> Amount:
        """What is used and what is reserved."""
        return sum((budget.reserved(grant) for grant in self.holds.values()), self.used)

    @property
    def rest(self) -> Grant:
        """What is neither used nor reserved."""
        return budget.left(self.limits, self.committed)

    @property
    def limits(self) -> Grant:
        """What it may use now: its own budget, or what the workspace allotted it so far."""
        return budget.narrowed(self.total, self.allot, self.pooled)


def opened(request: RunRequested, record: Record) -> Purse | None:
    """Return the purse of a run that was just requested."""
    if request.budget is None and not request.pooled:
        return None
    total = request.budget or Budget()
    return Purse(total=total, requested_ms=record.time_ms, until_seq=record.seq, pooled=request.pooled)


def take(purse: Purse, record: Record) -> Purse:
    """Take one of the run's facts in."""
    match record.fact:
        case StepStarted(grant=Grant() as grant) as fact:
            holds = {**purse.holds, fact.actor: grant}
            return replace(purse, holds=holds, short=purse.short - {fact.key}, exhausted=None)
        case BudgetShort(actor="", keys=keys):
            return replace(purse, short=purse.short | frozenset(keys))
        case BudgetShort() as fact:
            purse = gives_back(purse, fact.actor, fact.asked, fact.usage)
            return replace(purse, asks={**purse.asks, fact.actor: fact})
        case BudgetGranted() as fact:
            purse = gives_back(purse, fact.actor, fact.asked, fact.usage)
            holds = {**purse.holds, fact.actor: fact.grant}
            given = {**purse.given, fact.actor: Given(record.seq, fact)}
            return replace(purse, holds=holds, given=given, asks=_without(purse.asks, fact.actor), exhausted=None)
        case BudgetExhausted() as fact:
            return replace(purse, exhausted=fact, exhausted_ms=record.time_ms)
        case BudgetRaised() as fact:
            return replace(purse, total=fact.budget, until_seq=record.seq, exhausted=None)
        case BudgetClaimed() as fact:
            return replace(purse, claim=fact, claim_seq=record.seq)
        case BudgetAllotted(grant=grant):
            return replace(purse, allot=grant, claim=None, exhausted=None)
        case BudgetQueued() as fact:
            told = {**purse.told, fact.run: Answer(record.seq, fact.claim, None)}
            return replace(purse, line={**purse.line, fact.run: fact}, told=told)
        case BudgetReserved() as fact:
            told = {**purse.told, fact.run: Answer(record.seq, fact.claim, fact.grant)}
            holds = {**purse.holds, fact.run: fact.grant}
            return replace(purse, holds=holds, told=told, line=_without(purse.line, fact.run), exhausted=None)
        case BudgetReturned() as fact:
            return replace(
                purse,
                used=purse.used + fact.used,
                holds=_without(purse.holds, fact.run),
                line=_without(purse.line, fact.run),
                told=_without(purse.told, fact.run),
                returned=purse.returned | {fact.run},
            )
        case StepFailed(seq=0) as fact:
            actor = attempt_at(fact.step, fact.attempt)
            held = budget.reserved(purse.holds[actor]) if actor in purse.holds else Amount()
            return _close(replace(purse, used=purse.used + held), actor, Usage())
        case fact if isinstance(fact, Closed):
            return _close(purse, attempt_at(fact.step, fact.attempt), fact.usage)
        case _:
            return purse


def attempt_at(step: str, attempt: int) -> str:
    """Return the place of an attempt at a step."""
    return step if attempt == 1 else f"{step}-{attempt}"


def gives_back(purse: Purse, actor: str, asked: int, usage: Usage) -> Purse:
    """Leave an attempt that asks only what it used."""
    nothing = budget.left(purse.limits, budget.reserved(purse.limits))
    kept = budget.after(budget.spent(usage), nothing)
    return replace(purse, holds={**purse.holds, actor: kept}, asked={**purse.asked, actor: asked})


def _close(purse: Purse, actor: str, usage: Usage) -> Purse:
    """Take back what a closed attempt did not use."""
    return replace(
        purse,
        used=purse.used + budget.spent(usage),
        holds=_without(purse.holds, actor),
        asks=_without(purse.asks, actor),
        given=_without(purse.given, actor),
        asked=_without(purse.asked, actor),
    )


def _without(found: dict[str, Held], name: str) -> dict[str, Held]:
    return {key: value for key, value in found.items() if key != name}
