"""The budget of a run: look, and raise."""

from typing import Final

import msgspec

from events.budget import Budget
from gateway import budgets, views
from gateway.errors import Problem
from gateway.gateway import Gateway
from gateway.operations import RaiseRun
from gateway.route import Answered, Caller, once, route
from gateway.routes.runs import OfRun


class RaiseOfRun(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which run's budget: what `budget` names is set to it, and `add` comes on top; the rest stays."""

    budget: Budget = Budget()
    add: Budget = Budget()
    reason: str = ""
    by: str = ""


async def look(gateway: Gateway, caller: Caller, asked: OfRun) -> Answered:
    """What a run may use, used, reserved and has left; and, if it is out, what would let it go on."""
    return Answered(await _view(gateway, caller, asked.id))


async def raise_(gateway: Gateway, caller: Caller, asked: RaiseOfRun) -> Answered:
    """Set a run's budget, or add to it; a run that waits for it goes on."""

    async def act() -> Answered:
        request = RaiseRun(budget=asked.budget, add=asked.add, reason=asked.reason, by=asked.by)
        await gateway.operations.raise_budget(caller.workspace, asked.id, request, by=caller.by, key=caller.key)
        return Answered(await _view(gateway, caller, asked.id))

    return await once(gateway, caller, "runs.raise", asked=asked, act=act)


class OfWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to say: the workspace is the caller's."""


class LimitOfWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits of the workspace, all of them: what is left out is not limited."""

    limit: Budget
    reason: str = ""
    by: str = ""


async def look_workspace(gateway: Gateway, caller: Caller, asked: OfWorkspace) -> Answered:
    """What the runs of the workspace may use together, used, reserved and have left, and which stand in line."""
    del asked
    return Answered(budgets.workspace_view(await gateway.operations.workspace_budget(caller.workspace)))


async def limit_workspace(gateway: Gateway, caller: Caller, asked: LimitOfWorkspace) -> Answered:
    """Set what the runs of the workspace may use together; runs that begin from now on claim from it."""

    async def act() -> Answered:
        await gateway.operations.limit_workspace(
            caller.workspace, asked.limit, by=asked.by or caller.by, reason=asked.reason, key=caller.key
        )
        return Answered(budgets.workspace_view(await gateway.operations.workspace_budget(caller.workspace)))

    return await once(gateway, caller, "budget.limit", asked=asked, act=act)


async def _view(gateway: Gateway, caller: Caller, run: str) -> views.BudgetView:
    state = await gateway.operations.run_state(caller.workspace, run)
    found = budgets.view(state, gateway.system.clock.now_ms())
    if found is None:
        raise Problem(404, "no_budget", f"run {run} has no budget", hint="callboard run GOAL --budget 2.00")
    return found


ROUTES: Final = (
    route("runs.budget", "GET /v1/runs/{id}/budget", handle=look, answers=views.BudgetView),
    route("runs.raise", "POST /v1/runs/{id}/budget", handle=raise_, answers=views.BudgetView),
    route("budget.get", "GET /v1/budget", handle=look_workspace, answers=views.WorkspaceBudgetView),
    route("budget.limit", "POST /v1/budget", handle=limit_workspace, answers=views.WorkspaceBudgetView),
)
