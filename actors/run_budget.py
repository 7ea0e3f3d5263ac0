"""How a run spends its budget: slices to steps that begin and to attempts that ask, what waits, and when it is out. Pure.

A slice is an even share of the rest among all who need one, with one share more for those who ask again and for runs below;
at least what one call takes, at most eight calls' worth. Who gets none waits until something is handed back; when nobody is
at work any more, the run is out and waits for a raise.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from actors import budget
from actors.decider import Command, Refused, Schedule, Send, is_due
from actors.purse import Purse, gives_back
from actors.run_claims import can_claim, claim, claims, first_claim, lacked, served
from actors.run_state import RunState
from events.budget import (
    Amount,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetQueued,
    BudgetRaised,
    BudgetReserved,
    BudgetShort,
    Grant,
    Rate,
)
from events.fact import Fact, Usage
from events.run import StepStarted

WALL: Final = "wall"
BRIEF_TOKENS: Final = 2_000
"""What a brief holds beside goal and task: rules, paths, results of the steps before."""
NOTHING: Final = Amount()
LIMITS: Final = (*budget.DIMENSIONS, "wall_seconds", "depth")


class AgentAsked(Command, frozen=True, kw_only=True):
    """The attempt at `actor` asked for more with the fact at `seq`."""

    actor: str
    seq: int
    need: Amount
    usage: Usage


class RaiseBudget(Command, frozen=True, kw_only=True):
    """The budget is to be `budget` where that says something, and `add` more."""

    budget: Budget
    add: Budget
    by: str
    reason: str = ""


def asked(state: RunState, command: AgentAsked) -> list[Fact]:
    """Answer an attempt that asks for more: a grant, or it waits."""
    purse, step = state.purse, state.step_of(command.actor)
    if purse is None or step is None or step.status != "open" or command.seq <= purse.asked.get(command.actor, 0):
        return []
    short = BudgetShort(
        keys=(step.spec.id,), need=command.need, actor=command.actor, asked=command.seq, usage=command.usage
    )
    if purse.asks or purse.line or purse.over(command.now_ms):
        return [short]  # behind those that wait already
    purse = gives_back(purse, command.actor, command.seq, command.usage)
    return [_Sharing(purse, len(_open(state))).grant(short) or short]


def dispatch(state: RunState, ready: list[StepStarted], now_ms: int) -> list[Fact]:
    """Return what can begin or go on now, each with its slice, and who is told to wait; without a budget all that is ready."""
    purse = state.purse
    if purse is None:
        return list(ready)
    waiting = [one for actor, one in purse.asks.items() if actor in _open(state)]
    line = [one for run, one in purse.line.items() if run in state.children and not state.children[run].ended]
    if not (waiting or ready or line):
        return []
    first = _first_need(state, ready[0]) if ready else NOTHING
    if (claimed := first_claim(purse, first)) is not None:
        return claimed
    if purse.over(now_ms):
        return _out(purse, ("wall_seconds",), keys=_keys(waiting, ready))
    at_work = _open(state) - {one.actor for one in waiting} - _blocked(state, line)
    working = len(at_work) + len(state.open_children()) - len(line)
    sharing = _Sharing(purse, working + len(waiting) + len(ready) + len(line))
    facts: list[Fact] = [fact for one in waiting if (fact := sharing.grant(one)) is not None]
    facts += [fact for one in line if (fact := sharing.serve(one)) is not None]
    began = [(one, sharing.slice(_first_need(state, one))) for one in ready]
    facts += [replace(one, grant=grant) for one, grant in began if grant is not None]
    late = [one for one, grant in began if grant is None]
    if told := [one for one in late if one.key not in purse.short]:
        facts.append(BudgetShort(keys=tuple(one.key for one in told), need=_first_need(state, told[0])))
    if facts or working:
        return facts
    need = waiting[0].need if waiting else lacked(line[0], purse) if line else first
    if can_claim(purse, budget.lacking(need, purse.rest)):
        return [claim(purse, need)]
    return _out(purse, budget.lacking(need, purse.rest), keys=_keys(waiting, late), need=need)


class _Sharing:
    """What is left while slices are cut from it."""

    def __init__(self, purse: Purse, shares: int) -> None:
        self.purse = purse
        self.rest = purse.rest
        self.even = purse.rest
        self.shares = shares + 1

    def slice(self, need: Amount) -> Grant | None:
        """Cut a slice off, with the run's deadline and depth on it."""
        if budget.lacking(need, self.rest):
            return None
        part = budget.slice_of(self.even, need, shares=self.shares)
        if part is None:
            return None
        part = budget.no_more_than(part, self.rest)
        self.rest = budget.left(self.rest, budget.reserved(part))
        return replace(part, until=self.purse.until, depth=self.purse.total.depth)

    def grant(self, one: BudgetShort) -> BudgetGranted | None:
        part = self.slice(one.need)
        if part is None:
            return None
        whole = budget.after(budget.spent(one.usage), part, until=part.until, depth=part.depth)
        return BudgetGranted(key=one.keys[0], actor=one.actor, asked=one.asked, grant=whole, usage=one.usage)

    def serve(self, one: BudgetQueued) -> BudgetReserved | None:
        """Serve the claim of a run below."""
        hold = self.purse.holds.get(one.run, Grant())
        fact = served(one, hold, self.rest)
        if fact is not None:
            self.rest = budget.left(self.rest, budget.above(budget.reserved(fact.grant), budget.reserved(hold)))
        return fact


def _open(state: RunState) -> set[str]:
    return {step.actor for step in state.open_steps()}


def _blocked(state: RunState, line: Iterable[BudgetQueued]) -> set[str]:
    """Return the attempts that wait for a run that stands in line: they hand nothing back before it is served."""
    queued = {one.run for one in line}
    return {child.step for child in state.children.values() if child.wait and child.id in queued}


def _keys(waiting: Iterable[BudgetShort], ready: Iterable[StepStarted]) -> tuple[str, ...]:
    return (*(one.keys[0] for one in waiting), *(one.key for one in ready))


def _first_need(state: RunState, one: StepStarted) -> Amount:
    """What a step needs at least to begin: one model call with the shortest answer, one tool call."""
    request = state.request
    rate = request.rates.get(one.role, Rate()) if request else Rate()
    step = state.steps[one.key].spec
    words = len(request.goal if request else "") + len(step.task)
    size = rate.overhead + BRIEF_TOKENS + budget.tokens_of(words)
    call = budget.call_amount(rate, input_tokens=size, output_tokens=budget.OUTPUT_TOKENS_MIN)
    return call + Amount(tool_calls=1)


def _out(purse: Purse, lacks: tuple[str, ...], *, keys: tuple[str, ...], need: Amount = NOTHING) -> list[Fact]:
    if purse.exhausted is not None:
        return []
    return [BudgetExhausted(lacks=lacks, need=need, left=purse.rest, keys=keys)]


def wall_over(state: RunState, command: Command) -> list[Fact]:
    """Answer the timer of the wall time: nothing new is granted, what is asked for waits."""
    purse = state.purse
    if purse is None or not is_due(command, asked=purse.until_seq, at_ms=purse.until):
        return []
    return _out(purse, ("wall_seconds",), keys=tuple(step.spec.id for step in state.open_steps()))


def raised(state: RunState, command: RaiseBudget) -> list[Fact]:
    """Set a budget higher, or lower down to what is used and reserved; raises Refused with the numbers."""
    purse = state.purse
    if purse is None:
        raise Refused("no_budget", "the run was started without a budget; there is nothing to raise")
    wanted: dict[str, int | None] = {}
    for name in LIMITS:
        wanted[name] = _wanted(name, getattr(purse.total, name), command)
        least = getattr(purse.committed, name, 0)
        value = wanted[name]
        if value is not None and value < least:
            raise Refused("below_committed", budget.too_low("budget", name, value, least))
    new = Budget(**wanted)
    return [] if new == purse.total else [BudgetRaised(budget=new, by=command.by, reason=command.reason)]


def _wanted(name: str, now: int | None, command: RaiseBudget) -> int | None:
    set_, add = getattr(command.budget, name), getattr(command.add, name)
    if now is None:
        if set_ is not None or add is not None:
            set_as = budget.SET_AS.get(name, name)
            raise Refused("not_limited", f"budget.{set_as}: the run has no such limit, and none is put on it under way")
        return None
    return (now if set_ is None else set_) + (add or 0)


def requests(state: RunState) -> list[Send | Schedule]:
    """Return the grants to send, the claim to make, and the timer of the wall time."""
    purse = state.purse
    if purse is None:
        return []
    found: list[Send | Schedule] = [*claims(state)]
    found += [
        Send(
            asked=given.seq,
            address=state.address.at(actor),
            verb="grant",
            id=f"cmd_grant-{given.fact.asked}",
            body={"asked": given.fact.asked, "grant": given.fact.grant},
        )
        for actor, given in purse.given.items()
    ]
    if purse.until:
        found.append(Schedule(asked=purse.until_seq, timer=WALL, at_ms=purse.until))
    return found


def reserved_of(purse: Purse) -> Amount:
    """Return what attempts under way hold, what they used so far included."""
    return sum((budget.reserved(grant) for grant in purse.holds.values()), NOTHING)
