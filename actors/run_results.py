"""What a run makes of results: an agent's end becomes one small fact of the run's own, merged, judged or counted. Pure."""

from actors.decider import (
    Command,
)
from actors.run_retry import answered, attempts_max, failed, timed_out
from actors.run_state import PLANNER, RunState, Step
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded
from events.fact import Fact, Usage, Verdict
from events.ids import derive
from events.plan import faults
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepSucceeded,
)
from events.tool import ToolCompleted
from toolbox.tree import Conflict, merge

AgentEnd = AgentSucceeded | AgentFailed | AgentCanceled


class AgentEnded(Command, frozen=True, kw_only=True):
    """The agent at `actor` ended with the fact at `seq`."""

    actor: str
    seq: int
    end: AgentEnd


class CallEnded(Command, frozen=True, kw_only=True):
    """A call of the run itself ended: a human answered for a gate."""

    call: str
    end: Fact


def agent_ended(state: RunState, command: AgentEnded) -> list[Fact]:
    step = state.step_of(command.actor)
    if step is None or step.status != "open":
        return []
    stopping = state.stopping()
    if step.timed_out and not stopping:
        return [timed_out(state, step, command, seq=command.seq, usage=command.end.usage)]
    match command.end:
        case AgentSucceeded() as end if step.spec.id == PLANNER and state.plan is None:
            return [_planned(state, step, command, end)]
        case AgentSucceeded(verdict=Verdict() as verdict) as end if step.spec.gate is not None:
            return [_judged(state, step, command, end.usage, verdict=verdict)]
        case AgentSucceeded() as end:
            return [_merged(state, step, command, end)]
        case AgentCanceled() as end if stopping:
            return [
                StepCanceled(step=step.id, key=step.spec.id, attempt=step.attempt, seq=command.seq, usage=end.usage)
            ]
        case AgentCanceled(usage=usage, reason=reason):
            why = reason or "its agent was canceled"
            return [_failed(state, step, command, AgentFailed(code="canceled", reason=why, usage=usage))]
        case AgentFailed() as end:
            return [_failed(state, step, command, end)]


def _failed(state: RunState, step: Step, command: AgentEnded, end: AgentFailed) -> StepFailed:
    return failed(
        state,
        step,
        command,
        seq=command.seq,
        code=end.code,
        reason=end.reason,
        final=end.final,
        usage=end.usage,
    )


def _planned(state: RunState, step: Step, command: AgentEnded, end: AgentSucceeded) -> Fact:
    plan, roles = end.plan, state.request.roles if state.request else {}
    found = ["the planner handed in no plan"] if plan is None else faults(plan, roles)
    if plan is None or found:
        fault = AgentFailed(code="invalid_plan", reason="\n".join(found), usage=end.usage)
        return _failed(state, step, command, fault)
    return PlanAccepted(plan=plan, step=step.id, attempt=step.attempt, seq=command.seq, usage=end.usage)


def _merged(state: RunState, step: Step, command: AgentEnded, end: AgentSucceeded) -> Fact:
    request, seq = state.request, command.seq
    result = merge(state.head, end.changes)
    if isinstance(result, Conflict):
        if request is not None and step.conflicted + 1 >= attempts_max(request, step):
            reason = f"its changes met others' {step.conflicted + 1} times: {', '.join(result.paths)}"
            fault = AgentFailed(code="conflict", reason=reason, final=True, usage=end.usage)
            return _failed(state, step, command, fault)
        return StepConflicted(
            step=step.id,
            key=step.spec.id,
            attempt=step.attempt,
            seq=seq,
            paths=tuple(result.paths),
            usage=end.usage,
        )
    return StepSucceeded(
        step=step.id,
        key=step.spec.id,
        attempt=step.attempt,
        seq=seq,
        summary=end.summary,
        changes=end.changes,
        artifacts=end.artifacts,
        usage=end.usage,
    )


def _judged(state: RunState, step: Step, command: AgentEnded, usage: Usage, *, verdict: Verdict) -> Fact:
    if verdict.passed:
        return GatePassed(
            step=step.id,
            key=step.spec.id,
            attempt=step.attempt,
            seq=command.seq,
            verdict=verdict,
            usage=usage,
        )
    gate = step.spec.gate
    allowed = gate.rework if gate else ()
    rework = _rework(allowed, verdict)
    round_ = step.rounds + 1
    ask = ""
    if gate is None or round_ > gate.rounds or not rework:
        ask = derive("call", command.now_ms, str(state.address), step.id, round_)
        rework = ()
    return GateFailed(
        step=step.id,
        key=step.spec.id,
        attempt=step.attempt,
        seq=command.seq,
        round=round_,
        verdict=verdict,
        rework=rework,
        ask=ask,
        usage=usage,
    )


def _rework(allowed: tuple[str, ...], verdict: Verdict) -> tuple[str, ...]:
    """Choose the steps to send back: those that findings name, or all that may be if none is named."""
    named = {finding.step for finding in verdict.findings}
    return tuple(key for key in allowed if key in named) or allowed


def call_ended(state: RunState, command: CallEnded) -> list[Fact]:
    step = next((step for step in state.steps.values() if step.ask == command.call), None)
    if step is None or step.status != "asking":
        return []
    if step.gave_out:
        return answered(state, step, command.end)
    match command.end:
        case ToolCompleted(data={"decision": "approve", "by": str(by), "comment": str(comment)}):
            return [GateWaived(step=step.id, key=step.spec.id, by=by, comment=comment)]
        case ToolCompleted(data={"decision": "respond", "by": str(by), "comment": str(comment)}) if step.spec.gate:
            rework = step.spec.gate.rework
            return [GateReopened(step=step.id, key=step.spec.id, by=by, comment=comment, rework=rework)]
        case ToolCompleted(data={"by": str(by), "comment": str(comment)}):
            reason = f"{by} let the gate stand: {comment or step.summary}"
        case _:
            reason = f"the gate failed and nobody answered for it: {step.summary}"
    return [
        StepFailed(
            step=step.id,
            key=step.spec.id,
            attempt=step.attempt,
            seq=state.seen.last,
            code="gate_failed",
            reason=reason,
            final=True,
            next="fail",
        )
    ]
