"""The budget of a workspace: an actor of its own that runs claim from before they spend, and hand back to when they end. Pure.

It knows runs only by what they claimed. A claim that does not fit waits in line; every return and every raise serves the line.
"""

from itertools import islice
from typing import Final

import msgspec
from msgspec.structs import replace

from actors import budget
from actors.decider import Command, Create, Decider, Refused, Request, Seen, Send, Want
from actors.purse import Answer
from events.budget import (
    Amount,
    Budget,
    BudgetLimited,
    BudgetQueued,
    BudgetReserved,
    BudgetReturned,
    Grant,
)
from events.envelope import Record
from events.fact import Fact
from events.subjects import Address

NOTHING: Final = Amount()
RETURNED_KEPT: Final = 1_000
"""A claim that comes after its run's return is late, and reserves nothing; so many returns are remembered for that."""
OPEN_SHARE: Final = 4
"""A run without a limit of its own gets this part of what is left, and claims again when it has used that."""


class LimitWorkspace(Command, frozen=True, kw_only=True):
    """An operator sets the workspace's limits: all of them, what is left out is not limited."""

    limit: Budget
    by: str
    reason: str = ""


class ReserveBudget(Command, frozen=True, kw_only=True):
    """A run claims by its fact at `claim`: in all it wants `want` (None: a share), at least `least`."""

    run: str
    claim: int
    want: Grant
    least: Amount


class ReturnBudget(Command, frozen=True, kw_only=True):
    """A run ended having used `used`."""

    run: str
    used: Amount


class WorkspaceState(msgspec.Struct, frozen=True):
    """`holds` is what each open run has in all, `line` the claims that wait, in the order they came."""

    address: Address
    seen: Seen = Seen()
    limit: Budget = Budget()
    spent: Amount = Amount()
    holds: dict[str, Grant] = {}
    line: dict[str, BudgetQueued] = {}
    told: dict[str, Answer] = {}
    returned: tuple[str, ...] = ()
    end: None = None

    @property
    def reserved(self) -> Amount:
        return sum((budget.reserved(grant) for grant in self.holds.values()), NOTHING)

    @property
    def rest(self) -> Grant:
        """What is neither spent nor reserved."""
        return budget.left(self.limit, self.spent + self.reserved)


def budget_address(workspace: str) -> Address:
    """Return where a workspace's budget stands."""
    return Address(workspace, "-", "budget")


def initial(address: Address) -> WorkspaceState:
    return WorkspaceState(address=address)


def decide(state: WorkspaceState, command: Command) -> list[Fact]:
    """Answer a claim, a return or an operator; raises Refused for a limit below what is used and reserved."""
    match command:
        case LimitWorkspace():
            return _limited(state, command)
        case ReserveBudget(run=run, claim=claim) if run not in state.returned and claim > _claimed(state, run):
            queued = BudgetQueued(run=run, claim=claim, want=command.want, least=command.least)
            return [_reserved(state, queued) or queued]
        case ReserveBudget():
            return []
        case ReturnBudget(run=run, used=used) if run not in state.returned:
            # It may overtake the claim, and is recorded all the same: what is claimed then would be held for ever.
            known = run in state.holds or run in state.line
            return [BudgetReturned(run=run, used=used if known else NOTHING)]
        case ReturnBudget():
            return []
        case _:
            fits = (_reserved(state, queued) for queued in state.line.values())
            return list[Fact](islice((fact for fact in fits if fact is not None), 1))


def _claimed(state: WorkspaceState, run: str) -> int:
    return state.told[run].claim if run in state.told else 0


def _limited(state: WorkspaceState, command: LimitWorkspace) -> list[Fact]:
    taken = state.spent + state.reserved
    for name in budget.DIMENSIONS:
        most, least = getattr(command.limit, name), getattr(taken, name)
        if most is not None and most < least:
            raise Refused("below_committed", budget.too_low("limit", name, most, least))
    if command.limit == state.limit:
        return []
    return [BudgetLimited(limit=command.limit, by=command.by, reason=command.reason)]


def _reserved(state: WorkspaceState, queued: BudgetQueued) -> BudgetReserved | None:
    """Return what a claim gets, None if even the least does not fit."""
    hold = state.holds.get(queued.run, Grant())
    rest = state.rest
    whole = budget.after(budget.reserved(hold), rest)
    if budget.lacking(queued.least, whole):
        return None
    grant = budget.claimed(queued.want, queued.least, held=budget.reserved(hold), rest=rest, share=OPEN_SHARE)
    return BudgetReserved(run=queued.run, claim=queued.claim, grant=grant)


def evolve(state: WorkspaceState, record: Record) -> WorkspaceState:
    """Take one of its facts in; the commands it took are known by what they did, so their ids are not kept."""
    state = replace(state, seen=replace(state.seen.take(record), commands=frozenset()))
    match record.fact:
        case BudgetLimited(limit=limit):
            return replace(state, limit=limit)
        case BudgetQueued() as fact:
            told = {**state.told, fact.run: Answer(record.seq, fact.claim, None)}
            return replace(state, line={**state.line, fact.run: fact}, told=told)
        case BudgetReserved() as fact:
            told = {**state.told, fact.run: Answer(record.seq, fact.claim, fact.grant)}
            holds = {**state.holds, fact.run: fact.grant}
            return replace(state, holds=holds, told=told, line=_without(state.line, fact.run))
        case BudgetReturned() as fact:
            return replace(
                state,
                spent=state.spent + fact.used,
                holds={run: grant for run, grant in state.holds.items() if run != fact.run},
                told={run: answer for run, answer in state.told.items() if run != fact.run},
                line=_without(state.line, fact.run),
                returned=(*state.returned[-RETURNED_KEPT:], fact.run),
            )
        case _:
            return state


def _without(line: dict[str, BudgetQueued], run: str) -> dict[str, BudgetQueued]:
    return {key: value for key, value in line.items() if key != run}


def pending(state: WorkspaceState) -> list[Request]:
    """Return the answers to send, under ids that stay the same."""
    return [
        Send(
            asked=answer.seq,
            address=Address(state.address.workspace, run),
            verb="allot",
            id=f"cmd_allot-{answer.seq}",
            body={"claim": answer.claim, "grant": answer.grant},
        )
        for run, answer in state.told.items()
    ]


def create(state: WorkspaceState, want: Want) -> Create:
    raise TypeError(f"{state.address} wants nobody, and surely not {want.address}")


def route(state: WorkspaceState, fact: Fact) -> str:
    """Return who must act on `fact`: a door sets limits, and a worker serves the line then."""
    del state
    return "run" if isinstance(fact, BudgetLimited) else "-"


def open_actors(state: WorkspaceState) -> list[Address]:
    del state
    return []


WORKSPACE: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
