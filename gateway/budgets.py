"""Budgets at the door: what may be asked, what a role's calls are priced at, and how a run's budget is shown."""

from collections.abc import Mapping
from typing import Final

from actors import budget
from actors.prices import list_prices, resolve_model
from actors.run import out_of_budget
from actors.run_budget import LIMITS, reserved_of
from actors.run_state import RunState
from actors.workspace_budget import WorkspaceState
from events.blobs import Blobs
from events.budget import Budget, Rate
from events.envelope import rfc3339
from events.run import Role
from gateway.errors import Fault, Problem
from gateway.view.budget_lines import raise_line
from gateway.view.budget_words import exhausted
from gateway.views import BudgetLeft, BudgetView, WorkspaceBudgetView

AMOUNT_MAX: Final = 10**15
SECONDS_MAX: Final = 366 * 24 * 3600
DEPTH_MAX: Final = 16
MOST: Final[Mapping[str, int]] = {"wall_seconds": SECONDS_MAX, "depth": DEPTH_MAX}


def check_budget(asked: Budget, field: str = "budget") -> None:
    """Raise Problem (422) for a limit that is none: zero, negative, beyond all measure."""
    for name in LIMITS:
        value, least, most = getattr(asked, name), 0 if name == "depth" else 1, MOST.get(name, AMOUNT_MAX)
        if value is not None and not least <= value <= most:
            rule = f"must be {budget.said(name, least)} to {budget.said(name, most)}; leave it out for no limit"
            raise _invalid(field, name, f"{budget.said(name, value)} {rule}")


def _invalid(field: str, name: str, rule: str) -> Problem:
    """Return the problem of one limit: in the words it is set by, its pointer in those of the request."""
    detail = f"{field}.{budget.SET_AS.get(name, name)}: {rule}"
    return Problem(422, "invalid_request", detail, errors=(Fault(f"/{field}/{name}", rule),))


def check_limit(asked: Budget) -> None:
    """Raise Problem (422) for a limit that a workspace can't have: time and depth are a run's own."""
    check_budget(asked, "limit")
    for name in ("wall_seconds", "depth"):
        if getattr(asked, name) is not None:
            raise _invalid("limit", name, "a workspace limits usd, tokens, model_calls and tool_calls")


def limited(limit: Budget) -> tuple[str, ...]:
    """Name what is limited."""
    return tuple(name for name in budget.DIMENSIONS if getattr(limit, name) is not None)


def narrower(own: Budget | None, limit: Budget) -> Budget | None:
    """Return what calls must be priced for: what the run limits, and what its workspace does."""
    if own is None and not limited(limit):
        return None
    merged = {name: getattr(own, name, None) or getattr(limit, name) for name in LIMITS}
    return Budget(**merged)


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
            raise _invalid("budget", "cost_micros", f"model {model!r} has no price; limit its tokens or model_calls")
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


def workspace_view(state: WorkspaceState) -> WorkspaceBudgetView:
    """Return a workspace's budget as it is shown."""
    reserved, rest = state.reserved, state.rest
    return WorkspaceBudgetView(
        workspace=state.address.workspace,
        limit={name: getattr(state.limit, name) for name in limited(state.limit)},
        parts={
            name: BudgetLeft(
                limit=getattr(state.limit, name),
                used=getattr(state.spent, name),
                reserved=getattr(reserved, name),
                left=getattr(rest, name),
            )
            for name in limited(state.limit)
        },
        runs=len(state.holds),
        waiting=tuple(state.line),
    )


def view(state: RunState, now_ms: int) -> BudgetView | None:
    """Return a run's budget as it is shown; None if it has none."""
    purse, run = state.purse, state.address.run
    if purse is None:
        return None
    out = out_of_budget(state, now_ms)
    late_seconds = max(0, now_ms - purse.until) // 1000 if purse.until else 0
    used, held, left = purse.used, reserved_of(purse), purse.rest
    limits = purse.limits
    limited = [name for name in budget.DIMENSIONS if getattr(limits, name) is not None]
    return BudgetView(
        run=run,
        limit={name: getattr(purse.total, name) for name in LIMITS if getattr(purse.total, name) is not None},
        parts={
            name: BudgetLeft(
                limit=getattr(limits, name),
                used=getattr(used, name),
                reserved=getattr(held, name),
                left=getattr(left, name),
            )
            for name in limited
        },
        until=rfc3339(purse.until) if purse.until else None,
        waits=exhausted(out) if out else None,
        lacks=out.lacks if out else (),
        waiting=out.keys if out else (),
        hint=raise_line(run, out, late_seconds=late_seconds) if out else None,
    )
