"""Budgets along the tree: a run claims of the run above it, or of its workspace, and serves the claims of the runs below. Pure.

A run below a budgeted one has only what was allotted to it, claims more when that is used up, and hands back at its end.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from actors import budget
from actors.decider import Command, Refused, Send
from actors.purse import Answer, Purse
from actors.run_state import RunState
from actors.workspace_budget import OPEN_SHARE, ReserveBudget, ReturnBudget, budget_address
from events.budget import (
    Amount,
    Budget,
    BudgetAllotted,
    BudgetClaimed,
    BudgetExhausted,
    BudgetQueued,
    BudgetReserved,
    BudgetReturned,
    Grant,
)
from events.fact import Fact
from events.run import RunRequested
from events.subjects import Address

NOTHING: Final = Amount()


class AllotBudget(Command, frozen=True, kw_only=True):
    """Whom the run claimed of answers the claim at `claim`: the run has `grant` in all, or waits in line."""

    claim: int
    grant: Grant | None = None


# up: what this run claims


def above(state: RunState) -> Address:
    """Return whom a run claims of: the run above it if that has a budget, else the workspace."""
    request = state.request
    if request is not None and request.parent is not None and request.pooled_above:
        return Address(state.address.workspace, request.parent.run)
    return budget_address(state.address.workspace)


def first_claim(purse: Purse, need: Amount) -> list[Fact] | None:
    """Claim before the first step begins; while a claim is open nothing is granted. None if there is nothing to claim."""
    if purse.claim is not None:
        return []
    return [claim(purse, need)] if purse.pooled and purse.allot is None else None


def can_claim(purse: Purse, lacks: Iterable[str]) -> bool:
    """Tell whether more may be had from above of all that is lacking: the run's own budget would allow it."""
    allot = purse.allot
    return allot is not None and all(
        getattr(allot, name) is not None
        and (getattr(purse.total, name) is None or getattr(allot, name) < getattr(purse.total, name))
        for name in lacks
    )


def claim(purse: Purse, need: Amount) -> BudgetClaimed:
    return BudgetClaimed(want=budget.left(purse.total, NOTHING), least=purse.committed + need)


def allotted(state: RunState, command: AllotBudget) -> list[Fact]:
    """Take the answer to the claim that is open: a grant, or word that the run waits in line."""
    purse = state.purse
    if purse is None or purse.claim is None or command.claim != purse.claim_seq:
        return []
    if command.grant is not None:
        return [BudgetAllotted(claim=command.claim, grant=command.grant)]
    if purse.exhausted is not None:
        return []
    keys = tuple(step.spec.id for step in state.steps.values() if step.status in ("pending", "open"))
    address = above(state)
    out = BudgetExhausted(lacks=purse.pooled, need=purse.claim.least, left=purse.rest, keys=keys)
    return [replace(out, above=address.run) if address.kind == "run" else replace(out, workspace=True)]


def handed_back(state: RunState) -> list[Send]:
    """Return the word that an ended run used so much, attempts it left behind counted in full."""
    purse = state.purse
    if purse is None or not purse.claim_seq:
        return []
    run = state.address.run
    body = {"run": run, "used": purse.committed}
    return [Send(asked=state.seen.last, address=above(state), verb="return", id=f"cmd_return-{run}", body=body)]


def claims(state: RunState) -> list[Send]:
    """Return the claim to make, and the answers to those below."""
    purse = state.purse
    if purse is None:
        return []
    found = [_answer(state, run, answer) for run, answer in purse.told.items()]
    if purse.claim is not None:
        run, seq = state.address.run, purse.claim_seq
        body = {"run": run, "claim": seq, "want": purse.claim.want, "least": purse.claim.least}
        id_ = f"cmd_reserve-{run}-{seq}"
        found.append(Send(asked=seq, address=above(state), verb="reserve", id=id_, body=body))
    return found


def _answer(state: RunState, run: str, answer: Answer) -> Send:
    address = Address(state.address.workspace, run)
    body = {"claim": answer.claim, "grant": answer.grant}
    return Send(asked=answer.seq, address=address, verb="allot", id=f"cmd_allot-{answer.seq}", body=body)


# down: what runs below this one claim


def below(state: RunState, request: RunRequested, now_ms: int) -> RunRequested:
    """Return the request of a run below this one, tied to its budget; raises Refused where depth or time forbid it."""
    purse = state.purse
    if purse is None:
        return request
    if purse.total.depth is not None and purse.total.depth < 1:
        raise Refused("budget_depth", "budget.depth: no run may begin under this one; do it here")
    if purse.over(now_ms):
        raise Refused("budget_spent", "budget.wall: the run's time is over; nothing can begin under it")
    own = request.budget or Budget()
    limits, seconds = purse.limits, own.wall_seconds
    if purse.until:
        left = max(1, (purse.until - now_ms) // 1000)
        seconds = left if seconds is None else min(seconds, left)
    depth = own.depth if purse.total.depth is None else min(purse.total.depth - 1, own.depth or purse.total.depth)
    pooled = tuple(name for name in budget.DIMENSIONS if getattr(limits, name) is not None)
    return replace(
        request, budget=replace(own, wall_seconds=seconds, depth=depth), pooled=pooled, pooled_above=bool(pooled)
    )


def reserve(state: RunState, command: ReserveBudget) -> list[Fact]:
    """Answer the claim of a run below: the dispatch that follows serves the line."""
    purse, child = state.purse, state.children.get(command.run)
    if purse is None or child is None or child.ended or command.run in purse.returned:
        return []
    if command.run in purse.told and command.claim <= purse.told[command.run].claim:
        return []
    queued = BudgetQueued(run=command.run, claim=command.claim, want=command.want, least=command.least)
    if purse.asks or purse.line:
        return [queued]
    return [served(queued, purse.holds.get(command.run, Grant()), purse.rest) or queued]


def returned(state: RunState, command: ReturnBudget) -> list[Fact]:
    """Take back what a run below did not use; word of its end may overtake its claim, which reserves nothing then."""
    purse, run = state.purse, command.run
    if purse is None or run not in state.children or run in purse.returned:
        return []
    known = run in purse.holds or run in purse.line
    return [BudgetReturned(run=run, used=command.used if known else NOTHING)]


def served(queued: BudgetQueued, hold: Grant, rest: Grant) -> BudgetReserved | None:
    """Return what a claim gets of `rest`, None if even the least does not fit."""
    held = budget.reserved(hold)
    if budget.lacking(queued.least, budget.after(held, rest)):
        return None
    grant = budget.claimed(queued.want, queued.least, held=held, rest=rest, share=OPEN_SHARE)
    return BudgetReserved(run=queued.run, claim=queued.claim, grant=grant)


def lacked(queued: BudgetQueued, purse: Purse) -> Amount:
    """Return what a claim in line needs at least beside what its run has."""
    return budget.above(queued.least, budget.reserved(purse.holds.get(queued.run, Grant())))
