"""Whom a run wants: the first facts of its agents, of runs under it and of the questions it puts to humans. Pure."""

from typing import Any

import msgspec

from actors.brief import planner_brief, step_brief
from actors.call_limits import limited
from actors.decider import (
    Create,
    Want,
)
from actors.run_children import create_child
from actors.run_letters import create_letter
from actors.run_state import PLANNER, RunState, Step
from events.agent import CHECK, AgentRequested
from events.budget import Rate
from events.run import (
    RunRequested,
)
from events.tool import ToolRequested


def create(state: RunState, want: Want) -> Create:
    """Return the request of an agent or of a question about a gate or a step, or the dead letter of a step, that is wanted."""
    if want.address.run == "-":
        return create_letter(state, want)
    request = state.request
    assert request is not None
    if want.address.run != state.address.run:
        return create_child(state, want)
    if want.address.kind == "agent":
        step = state.step_of(want.address.step)
        assert step is not None
        return _create_agent(state, request, step)
    return _create_question(state, next(step for step in state.steps.values() if step.ask == want.address.call))


def _create_agent(state: RunState, request: RunRequested, step: Step) -> Create:
    role = request.roles[step.role]
    planner = step.spec.id == PLANNER and state.plan is None
    gate = step.spec.gate is not None
    fact = AgentRequested(
        step=step.id,
        key=step.spec.id,
        role=step.role,
        attempt=step.attempt,
        brief=_planner_brief(state, request, step) if planner else _brief(state, request, step),
        definition=role.definition,
        model=role.model,
        tools={
            name: limited(name, request.tools[name], step.spec.calls) for name in role.tools if name in request.tools
        },
        check=limited("run_check", request.tools.get("run_check", CHECK), step.spec.calls),
        files=state.head,
        writes=step.spec.writes,
        expects=step.spec.expects,
        validate=step.spec.validate,
        gate=gate,
        planner=planner,
        plan_roles=tuple(sorted(set(request.roles) - {PLANNER})) if planner else (),
        approve=request.approve,
        limits=request.limits,
        grant=state.purse.holds.get(step.actor) if state.purse else None,
        rate=request.rates.get(step.spec.role, Rate()),
    )
    return Create(asked=step.started, address=state.address.at(step.actor), fact=fact, to=f"start-{step.role}")


def _planner_brief(state: RunState, request: RunRequested, step: Step) -> str:
    del state
    roles = {name: role.description for name, role in request.roles.items() if name != PLANNER}
    return planner_brief(goal=request.goal, roles=roles, faults=step.findings[0].message if step.findings else "")


def _brief(state: RunState, request: RunRequested, step: Step) -> str:
    before = state.before.get(step.spec.id, frozenset())
    earlier = {key: other for key, other in state.steps.items() if key in before}
    without = {key: other.fault for key, other in earlier.items() if other.status == "given_up"}
    summaries = {key: other.summary for key, other in earlier.items() if other.summary and key not in without}
    return step_brief(
        goal=request.goal,
        step=step.spec,
        summaries=summaries,
        artifacts=state.artifacts,
        paths=sorted(state.head),
        findings=() if step.spec.gate else step.findings,
        conflicts=step.conflicts,
        without=without,
    )


def _create_question(state: RunState, step: Step) -> Create:
    shown = _shown_step(step) if step.gave_out else _shown_gate(step)
    kind = "step" if step.gave_out else "gate"
    fact = ToolRequested(
        tool=kind,
        arguments=msgspec.Raw(msgspec.json.encode(shown)),
        effect="read",
        owner="run",
        key=step.spec.id,
        role=step.role,
        kind=kind,
        risk="high",
    )
    return Create(asked=step.asked, address=state.address.at("-", step.ask), fact=fact, to=f"tool-{fact.pool}")


def _shown_gate(step: Step) -> dict[str, Any]:
    gate = step.spec.gate
    return {
        "gate": step.spec.id,
        "summary": step.summary,
        "rounds": step.rounds,
        "findings": [f"{finding.step}: {finding.message}" for finding in step.findings],
        "rework": list(gate.rework) if gate else [],
    }


def _shown_step(step: Step) -> dict[str, Any]:
    return {
        "step": step.spec.id,
        "attempts": step.attempt,
        "code": step.code,
        "reason": step.fault,
        "approve": "go on without it",
        "respond": "try again with your words",
        "reject": "let the run fail",
    }
