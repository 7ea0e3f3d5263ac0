"""The calls an agent wants: which may begin now, and what each is asked with. Pure."""

from typing import Any

import msgspec

from actors.agent_budget import funded
from actors.agent_state import AgentState, Call
from actors.decider import (
    Create,
    Want,
)
from events.agent import (
    AgentRequested,
)
from events.run import ToolSpec
from events.tool import ToolRequested


def next_calls(state: AgentState, request: AgentRequested) -> list[Call]:
    """Choose the calls that may begin: in the answer's order, neighbouring reads together, one that may write alone.

    A call that the budget has nothing for holds those behind it back.
    """
    chosen: list[Call] = []
    running = False
    for call in state.calls.values():
        if call.end is not None:
            continue
        spec = request.tools.get(call.name)
        writes = spec.writes if spec else False
        if (writes and running) or not funded(state, call):
            break
        if not call.created:
            chosen.append(call)
        running = True
        if writes:
            break
    return chosen


def create(state: AgentState, want: Want) -> Create:
    """Return the request of a call that is wanted."""
    request, call = state.request, state.calls[want.address.call]
    assert request is not None
    fact = _check_request(request, call) if call.argv else _tool_request(state, request, call)
    return Create(asked=want.asked, address=want.address, fact=fact, to=f"tool-{fact.pool}")


def _check_request(request: AgentRequested, call: Call) -> ToolRequested:
    return ToolRequested(
        tool="run_check",
        arguments=msgspec.Raw(call.arguments),
        effect="idempotent",
        owner="agent",
        key=request.key,
        role=request.role,
        kind="check",
        takeovers_max=request.limits.takeovers_max,
        timeout_seconds=request.check.timeout_seconds,
        attempts_max=request.check.attempts_max,
    )


def _tool_request(state: AgentState, request: AgentRequested, call: Call) -> ToolRequested:
    spec = request.tools.get(call.name)
    denied = ""
    if spec is None:
        denied = (
            f"role {request.role} may not use {call.name[:60]!r}; its tools are: {', '.join(sorted(request.tools))}"
        )
    elif call.id in state.batch and state.batch.index(call.id) >= request.limits.calls_max:
        denied = f"one answer may ask for at most {request.limits.calls_max} calls"
    risky = spec is not None and (spec.risky or (request.approve == "all" and spec.effect != "read"))
    question = spec is not None and spec.question
    return ToolRequested(
        tool=call.name[:64],
        arguments=msgspec.Raw(call.arguments),
        effect=spec.effect if spec else "read",
        owner="agent",
        pool=spec.pool if spec else "local",
        key=request.key,
        role=request.role,
        use=call.use,
        kind="question" if question else "tool_call",
        approval=risky and request.approve != "auto",
        risk="high" if risky else "",
        expires_seconds=request.limits.approval_seconds,
        denied=denied,
        takeovers_max=request.limits.takeovers_max,
        **_care(spec or ToolSpec(effect="read")),
    )


def _care(spec: ToolSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in ("unknown", "timeout_seconds", "attempts_max", "backoff_seconds")}
