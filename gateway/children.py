"""Runs under a run: what a call or a door asks for becomes a request that starts from the run above, which decides on it."""

from typing import Any

import msgspec

from actors.agent_state import AgentState
from actors.run_children import Spawn, child_id, parent_of
from actors.run_state import RunState
from events.budget import Budget
from events.fact import File
from events.plan import Plan, PlanStep
from events.run import RunRequested
from events.subjects import Address
from gateway import budgets
from gateway.errors import Problem
from gateway.operations import CreateRun, Operations, RunAccepted, accepted_of
from gateway.system import System
from gateway.views import MICROS
from toolbox.errors import FilesAway, ToolError
from toolbox.tool import RunBudget, SubRun


class Children:
    """Begins runs under runs. Called by a worker for a call, it is a `Spawns` of actors.perform."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.operations = Operations(system)

    async def __call__(self, call: Address, agent: AgentState, wanted: SubRun) -> str:
        """Begin the run that a call wants, from the files of its agent; raises ToolError, FilesAway while the log is away."""
        child = child_id(call.call)
        try:
            above = await self.operations.run_state(call.workspace, call.run)
            if child in above.children:
                return child
            request = _of_call(wanted)
            fact = await self._request(above, request, step=call.step, call=call.call, files=agent.files)
            fact = msgspec.structs.replace(fact, limits=above.request.limits if above.request else fact.limits)
            await self._ask(above.address, fact, child=child, step=call.step, call=call.call, wait=wanted.wait)
        except Problem as problem:
            if problem.retryable:
                raise FilesAway(problem.detail) from problem
            raise ToolError(problem.code, problem.detail) from problem
        return child

    async def begin(self, workspace: str, run: str, request: CreateRun, *, child: str) -> RunAccepted:
        """Begin a run under `run` that nobody waits for, from the files at its head. Raises Problem."""
        above = await self.operations.run_state(workspace, run)
        fact = await self._request(above, request, step="", call="", files=above.head)
        seq = await self._ask(above.address, fact, child=child)
        return accepted_of(Address(workspace, child), fact, seq=seq)

    async def _request(
        self, above: RunState, request: CreateRun, *, step: str, call: str, files: dict[str, File]
    ) -> RunRequested:
        """Return the first fact of the run: a plan of one's own is worked on by the roles of the run above."""
        started = above.request
        assert started is not None, "a run that was found was asked for"
        given = request if request.model else msgspec.structs.replace(request, model=started.model)
        roles = started.roles if request.plan is not None else None
        fact = await self.operations.request_of(above.address.workspace, given, by=started.by, roles=roles)
        rates = fact.rates
        if above.purse is not None:
            workspace, own = above.address.workspace, fact.budget or Budget()
            wanted = Budget(cost_micros=own.cost_micros or above.purse.limits.cost_micros)
            rates = await budgets.rates(fact.roles, wanted, blobs=self.system.blobs, workspace=workspace)
        return msgspec.structs.replace(
            fact,
            rates=rates,
            approve=request.approvals or started.approve,
            parent=parent_of(above, started, step=step, call=call),
            files=files,
        )

    async def _ask(self, above: Address, fact: RunRequested, *, child: str, **more: Any) -> int:
        command = Spawn(id=f"cmd_spawn-{child}", now_ms=self.system.clock.now_ms(), child=child, request=fact, **more)
        return await self.operations.answer(above, command)


def _of_call(wanted: SubRun) -> CreateRun:
    budget = None if wanted.budget is None else _budget(wanted.budget)
    if wanted.steps is None:
        return CreateRun(goal=wanted.goal, blueprint=wanted.blueprint, budget=budget)
    try:
        steps = msgspec.convert(wanted.steps, tuple[PlanStep, ...], strict=False)
    except msgspec.ValidationError as fault:
        raise ToolError("bad_arguments", f"steps: {fault}") from None
    return CreateRun(goal=wanted.goal, plan=Plan(steps=steps), budget=budget)


def _budget(wanted: RunBudget) -> Budget:
    return Budget(
        tokens=wanted.tokens,
        cost_micros=None if wanted.usd is None else round(wanted.usd * MICROS),
        model_calls=wanted.model_calls,
        tool_calls=wanted.tool_calls,
    )
