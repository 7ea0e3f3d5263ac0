"""Budgets in words: amounts, what is lacking, and the facts of asking, granting and raising."""

from typing import Final

from events.budget import (
    Amount,
    Budget,
    BudgetAllotted,
    BudgetAsked,
    BudgetClaimed,
    BudgetExhausted,
    BudgetFact,
    BudgetGranted,
    BudgetLimited,
    BudgetOverdrawn,
    BudgetQueued,
    BudgetRaised,
    BudgetReceived,
    BudgetReserved,
    BudgetReturned,
    BudgetShort,
    Grant,
)
from gateway.view.say import Words, because, note, warn, who, working
from gateway.view.text import clean, count, duration, listed, money, plural

NAMES: Final = {
    "tokens": "tokens",
    "cost_micros": "money",
    "model_calls": "model calls",
    "tool_calls": "tool calls",
    "wall_seconds": "time",
    "depth": "depth",
}


def of_budget(fact: BudgetFact) -> Words:
    """Return what a fact of a budget says."""
    match fact:
        case BudgetAsked(need=need):
            return note(f"more budget asked for: {amount(need)} at least")
        case BudgetReceived(grant=grant):
            return note(f"more budget granted: {amount(grant)} in all")
        case BudgetOverdrawn(over=over):
            return warn(f"the model call took {amount(over)} more than was reserved for it")
        case BudgetGranted(key=key, grant=grant):
            return working(f"{key} is granted {amount(grant)} in all")
        case BudgetShort(keys=keys, need=need):
            return note(f"{listed(keys)} waits for budget: {amount(need)} at least")
        case BudgetExhausted():
            return Words("asks", "warn", exhausted(fact))
        case BudgetRaised(budget=budget, by=by, reason=reason):
            return working(f"budget set to {amount(budget)} by {who(by)}{because(reason)}")
        case _:
            return _of_workspace(fact)


def _of_workspace(
    fact: BudgetClaimed | BudgetAllotted | BudgetLimited | BudgetReserved | BudgetQueued | BudgetReturned,
) -> Words:
    match fact:
        case BudgetClaimed(want=want, least=least):
            return note(f"budget claimed of the workspace: {_wanted(want)}, {amount(least)} at least")
        case BudgetAllotted(grant=grant):
            return note(f"the workspace allots {amount(grant)} in all")
        case BudgetLimited(limit=limit, by=by, reason=reason):
            return note(f"workspace limited to {amount(limit)} by {who(by)}{because(reason)}")
        case BudgetReserved(run=run, grant=grant):
            return note(f"{amount(grant)} reserved for {clean(run)}")
        case BudgetQueued(run=run, least=least):
            return warn(f"{clean(run)} waits in line: {amount(least)} needed at least")
        case BudgetReturned(run=run, used=used):
            return note(f"{clean(run)} ended and used {amount(used)}")


def _wanted(want: Grant) -> str:
    return amount(want) if want != Grant() else "a share"


def exhausted(fact: BudgetExhausted) -> str:
    """Say what a run is out of, what it needs and what is left."""
    out = listed(NAMES.get(name, name) for name in fact.lacks)
    if fact.workspace or fact.above:
        who_ = f"{clean(fact.above)} above it" if fact.above else "the workspace"
        return f"out of budget: {who_} has too little ({out}), and {amount(fact.need)} are needed at least"
    waits = f"; {listed(fact.keys)} would go on" if fact.keys else ""
    if "wall_seconds" in fact.lacks:
        return f"out of budget ({out}){waits}"
    return f"out of budget ({out}): {amount(fact.need)} needed at least, {amount(fact.left) or 'nothing'} left{waits}"


def amount(found: Amount | Grant | Budget) -> str:
    """Write what is counted; what is not limited, or not needed, is left out."""
    zero = not isinstance(found, Amount)
    parts = [
        _part(found.tokens, f"{count(found.tokens or 0)} tokens", zero=zero),
        _part(found.cost_micros, money(found.cost_micros or 0), zero=zero),
        _part(found.model_calls, plural(found.model_calls or 0, "model call"), zero=zero),
        _part(found.tool_calls, plural(found.tool_calls or 0, "tool call"), zero=zero),
    ]
    if isinstance(found, Budget):
        parts.append(_part(found.wall_seconds, duration((found.wall_seconds or 0) * 1000), zero=zero))
    return ", ".join(part for part in parts if part) or "nothing"


def _part(number: int | None, text: str, *, zero: bool) -> str:
    return "" if number is None or (number == 0 and not zero) else text
