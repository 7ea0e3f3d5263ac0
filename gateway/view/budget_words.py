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
COUNTED: Final = ("tokens", "cost_micros", "model_calls", "tool_calls")
RESERVED: Final = "a call's worst case is reserved before it is made"


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
        need = _of(fact.need, fact.lacks) or amount(fact.need)
        return f"out of budget: {who_} has too little ({out}), {need} needed at least ({RESERVED})"
    waits = f"; {listed(fact.keys)} would go on" if fact.keys else ""
    if "wall_seconds" in fact.lacks:
        return f"out of budget ({out}){waits}"
    need, left = _of(fact.need, fact.lacks), _of(fact.left, fact.lacks)
    return f"out of budget ({out}): {need} needed at least ({RESERVED}), {left} left{waits}"


def _of(found: Amount | Grant, lacks: tuple[str, ...]) -> str:
    """Write of an amount only what is lacking: the rest explains nothing."""
    return listed(part(name, getattr(found, name) or 0) for name in lacks if name in COUNTED)


def amount(found: Amount | Grant | Budget) -> str:
    """Write what is counted; what is not limited, or not needed, is left out."""
    names = (*COUNTED, "wall_seconds") if isinstance(found, Budget) else COUNTED
    least = 1 if isinstance(found, Amount) else 0
    numbers: list[tuple[str, int | None]] = [(name, getattr(found, name)) for name in names]
    return (
        ", ".join(part(name, number) for name, number in numbers if number is not None and number >= least) or "nothing"
    )


def part(name: str, number: int) -> str:
    """Write so much of one thing that a budget counts."""
    match name:
        case "cost_micros":
            return money(number)
        case "tokens":
            return f"{count(number)} tokens"
        case "wall_seconds":
            return duration(number * 1000)
        case _:
            return plural(number, name.replace("_", " ").removesuffix("s"))
