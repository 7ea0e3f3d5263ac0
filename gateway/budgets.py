"""Budgets at the door: what may be asked, what a role's calls are priced at, and how a run's budget is shown."""

from collections.abc import Mapping
from typing import Final

from actors import budget
from actors.prices import list_prices, resolve_model
from actors.purse import Purse
from actors.run_budget import LIMITS, reserved_of
from events.blobs import Blobs
from events.budget import Budget, Rate
from events.envelope import rfc3339
from events.run import Role
from gateway.errors import invalid
from gateway.view.budget_lines import raise_line
from gateway.view.budget_words import exhausted
from gateway.views import BudgetLeft, BudgetView

AMOUNT_MAX: Final = 10**15
SECONDS_MAX: Final = 366 * 24 * 3600
DEPTH_MAX: Final = 16
MOST: Final[Mapping[str, int]] = {"wall_seconds": SECONDS_MAX, "depth": DEPTH_MAX}


def check_budget(asked: Budget, field: str = "budget") -> None:
    """Raise Problem (422) for a limit that is none: zero, negative, beyond all measure."""
    for name in LIMITS:
        value, least, most = getattr(asked, name), 0 if name == "depth" else 1, MOST.get(name, AMOUNT_MAX)
        if value is not None and not least <= value <= most:
            raise invalid(f"/{field}/{name}", f"{value} must be {least} to {most}; leave it out for no limit")


async def rates(roles: Mapping[str, Role], asked: Budget | None, *, blobs: Blobs, workspace: str) -> dict[str, Rate]:
    """Return what each role's model calls take at worst, pinned for a run with a budget. Raises Problem for no price."""
    if asked is None:
        return {}
    found: dict[str, Rate] = {}
    for name, role in roles.items():
        size = len(await blobs.get(workspace, role.definition))
        found[name] = _rate(role.model, budget.tokens_of(size), money=asked.cost_micros is not None)
    return found


def _rate(model: str, overhead: int, *, money: bool) -> Rate:
    price = list_prices().price(resolve_model("" if model == "scripted" else model))
    if price is None:
        if money:
            raise invalid("/budget/cost_micros", f"model {model!r} has no price; limit its tokens or model_calls")
        return Rate(overhead=overhead)
    long = price.long_prompt
    return Rate(
        overhead=overhead,
        input=max(price.input, price.cache_write, price.cache_read),
        output=price.output,
        long_over=long.over_tokens if long else 0,
        long_input=max(long.input, long.cache_write, long.cache_read) if long else 0.0,
        long_output=long.output if long else 0.0,
    )


def view(run: str, purse: Purse) -> BudgetView:
    """Return a run's budget as it is shown."""
    used, held, left = purse.used, reserved_of(purse), purse.rest
    limited = [name for name in budget.DIMENSIONS if getattr(purse.total, name) is not None]
    return BudgetView(
        run=run,
        limit={name: getattr(purse.total, name) for name in LIMITS if getattr(purse.total, name) is not None},
        parts={
            name: BudgetLeft(
                limit=getattr(purse.total, name),
                used=getattr(used, name),
                reserved=getattr(held, name),
                left=getattr(left, name),
            )
            for name in limited
        },
        until=rfc3339(purse.until) if purse.until else None,
        waits=exhausted(purse.exhausted) if purse.exhausted else None,
        lacks=purse.exhausted.lacks if purse.exhausted else (),
        waiting=purse.exhausted.keys if purse.exhausted else (),
        hint=raise_line(run, purse.exhausted.lacks) if purse.exhausted else None,
    )
