"""The run actor: plan, dispatch of ready steps, gates and rework, merge of files, the end. It folds its own facts only."""

from typing import Final

import msgspec

from actors.brief import planner_brief, step_brief
from actors.decider import (
    TURNS_FAILED_MAX,
    Cancel,
    Command,
    Create,
    Decider,
    Refused,
    Request,
    Schedule,
    Send,
    TimerFired,
    TurnRaised,
    Want,
)
from actors.run_state import PLANNER, RunState, Step, evolve
from events.agent import AgentCanceled, AgentFailed, AgentRequested, AgentSucceeded
from events.fact import Fact, Usage, Verdict
from events.ids import derive
from events.plan import faults
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunCancelRequested,
    RunFailed,
    RunRequested,
    RunStarted,
    RunSucceeded,
    RunTurnFailed,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepStarted,
    StepSucceeded,
    TimerSet,
)
from events.subjects import Address
from events.tool import ToolCompleted, ToolRequested
from toolbox.tree import Conflict, merge

CANCEL_TIMER: Final = "cancel"
CANCEL_GRACE_MS: Final = 10_000
WATCH_MS: Final = 60_000
WATCH_MS_MAX: Final = 3_600_000
AgentEnd = AgentSucceeded | AgentFailed | AgentCanceled


class StartRun(Command, frozen=True, kw_only=True):
    """A door accepted a goal."""

    request: RunRequested


class AgentEnded(Command, frozen=True, kw_only=True):
    """The agent at `actor` ended with the fact at `seq`."""

    actor: str
    seq: int
    end: AgentEnd


class CallEnded(Command, frozen=True, kw_only=True):
    """A call of the run itself ended: a human answered for a gate."""

    call: str
    end: Fact


def initial(address: Address) -> RunState:
    return RunState(address=address)


def decide(state: RunState, command: Command) -> list[Fact]:
    """Answer a command with facts; raises Refused where a person must be told no."""
    match command:
        case StartRun(request=request):
            return [] if state.request else [request]
        case Cancel() if state.end is not None and not isinstance(state.end, RunCanceled):
            raise Refused("run_ended", "the run has ended; nothing is left to cancel", recorded=state.end)
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel(by=by, reason=reason):
            return [] if state.cancel else [RunCancelRequested(by=by, reason=reason)]
        case AgentEnded():
            return _agent_ended(state, state.request, command)
        case CallEnded():
            return _call_ended(state, command)
        case TimerFired(timer=timer):
            return _timer_fired(state, timer, command)
        case TurnRaised(message=message, error=error):
            return [RunTurnFailed(message=message, error=error)]
        case _:
            return _advance(state, state.request, command)


def _advance(state: RunState, request: RunRequested, command: Command) -> list[Fact]:
    if state.end is not None:
        return []
    if state.cancel is not None:
        return [] if state.open_steps() else [RunCanceled(by=state.cancel.by, reason=state.cancel.reason)]
    if max(state.seen.turns_failed.values(), default=0) >= TURNS_FAILED_MAX:
        return [RunFailed(code="dead_letter", reason="its turns kept failing inside the engine")]
    if not state.started:
        return [RunStarted()]
    if state.watch is None:
        return [_watch(state, WATCH_MS, command)]
    if (failed := state.failed_step()) is not None:
        if state.open_steps():
            return []
        return [RunFailed(code=failed.code, reason=failed.fault, step=failed.spec.id)]
    started = [_start(state, step) for step in _ready(state)]
    if started or state.plan is None:
        return list(started)
    if all(step.status == "done" for step in state.steps.values()):
        return [RunSucceeded(summary=_summary(state))]
    return []


def _summary(state: RunState) -> str:
    last = list(state.steps.values())[-1]
    return last.summary or f"{len(state.steps)} steps done"


def _watch(state: RunState, interval_ms: int, command: Command) -> TimerSet:
    at = command.now_ms + interval_ms
    return TimerSet(timer=derive("tmr", command.now_ms, str(state.address), at), at=at, purpose="watch")


def _ready(state: RunState) -> list[Step]:
    def done(key: str) -> bool:
        return state.steps[key].status == "done"

    return [
        step for step in state.steps.values() if step.status == "pending" and all(done(key) for key in step.spec.needs)
    ]


def _start(state: RunState, step: Step) -> StepStarted:
    attempt = step.attempt + 1
    return StepStarted(
        step=step.id,
        key=step.spec.id,
        role=step.spec.role,
        attempt=attempt,
        actor=step.id if attempt == 1 else f"{step.id}-{attempt}",
        title=step.spec.title,
        findings=() if step.spec.gate else step.findings,
        conflicts=step.conflicts,
    )


def _agent_ended(state: RunState, request: RunRequested, command: AgentEnded) -> list[Fact]:
    step = state.step_of(command.actor)
    if step is None or step.status != "open":
        return []
    stopping = state.cancel is not None or state.failed_step() is not None
    match command.end:
        case AgentSucceeded() as end if step.spec.id == PLANNER and state.plan is None:
            return [_planned(step, request, command.seq, end)]
        case AgentSucceeded(verdict=Verdict() as verdict) as end if step.spec.gate is not None:
            return [_judged(state, step, command, end.usage, verdict=verdict)]
        case AgentSucceeded() as end:
            return [_merged(state, step, command.seq, end)]
        case AgentCanceled() as end if stopping:
            return [
                StepCanceled(step=step.id, key=step.spec.id, attempt=step.attempt, seq=command.seq, usage=end.usage)
            ]
        case AgentCanceled(usage=usage, reason=reason):
            why = reason or "its agent was canceled"
            return [_failed(step, request, command.seq, AgentFailed(code="canceled", reason=why, usage=usage))]
        case AgentFailed() as end:
            return [_failed(step, request, command.seq, end)]


def _failed(step: Step, request: RunRequested, seq: int, end: AgentFailed) -> StepFailed:
    return StepFailed(
        step=step.id,
        key=step.spec.id,
        attempt=step.attempt,
        seq=seq,
        code=end.code,
        reason=end.reason,
        final=end.final or step.failures + 1 >= request.limits.attempts_max,
        usage=end.usage,
    )


def _planned(step: Step, request: RunRequested, seq: int, end: AgentSucceeded) -> Fact:
    plan = end.plan
    found = ["the planner handed in no plan"] if plan is None else faults(plan, request.roles)
    if plan is None or found:
        return _failed(step, request, seq, AgentFailed(code="invalid_plan", reason="\n".join(found), usage=end.usage))
    return PlanAccepted(plan=plan, step=step.id, attempt=step.attempt, seq=seq, usage=end.usage)


def _merged(state: RunState, step: Step, seq: int, end: AgentSucceeded) -> Fact:
    request = state.request
    result = merge(state.head, end.changes)
    if isinstance(result, Conflict):
        if request is not None and step.conflicted + 1 >= request.limits.attempts_max:
            reason = f"its changes met others' {step.conflicted + 1} times: {', '.join(result.paths)}"
            return _failed(step, request, seq, AgentFailed(code="conflict", reason=reason, final=True, usage=end.usage))
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


def _call_ended(state: RunState, command: CallEnded) -> list[Fact]:
    step = next((step for step in state.steps.values() if step.ask == command.call), None)
    if step is None or step.status != "asking":
        return []
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
        )
    ]


def _timer_fired(state: RunState, timer: str, command: Command) -> list[Fact]:
    if timer == CANCEL_TIMER and state.cancel is not None:
        return [RunCanceled(by=state.cancel.by, reason=state.cancel.reason)]
    if state.watch is None or timer != state.watch.timer:
        return []
    interval = WATCH_MS if state.moved else min(state.watch_interval_ms * 2, WATCH_MS_MAX)
    return [_watch(state, interval, command)]


def pending(state: RunState) -> list[Request]:
    """Return what is asked and not answered: agents to begin, questions to put, stops to send, timers to set."""
    request = state.request
    if request is None or state.end is not None:
        return []
    found: list[Request] = []
    if state.watch is not None:
        found.append(Schedule(asked=state.watch_seq, timer=state.watch.timer, at_ms=state.watch.at))
    failed = state.failed_step()
    if state.cancel is not None or failed is not None:
        asked = state.cancel_seq if state.cancel else state.seen.last
        by = state.cancel.by if state.cancel else f"step {failed.spec.id} failed" if failed else ""
        found += [_stop(address, asked, by) for address in open_actors(state)]
        if state.cancel is not None:
            found.append(Schedule(asked=asked, timer=CANCEL_TIMER, at_ms=state.cancel_ms + CANCEL_GRACE_MS))
        return found
    found += [Want(asked=step.started, address=state.address.at(step.actor)) for step in state.open_steps()]
    found += [
        Want(asked=step.asked, address=state.address.at("-", step.ask))
        for step in state.steps.values()
        if step.status == "asking"
    ]
    return found


def create(state: RunState, want: Want) -> Create:
    """Return the request of an agent, or of a question about a gate, that is wanted."""
    request = state.request
    assert request is not None
    if want.address.kind == "agent":
        step = state.step_of(want.address.step)
        assert step is not None
        return _create_agent(state, request, step)
    return _create_question(state, next(step for step in state.steps.values() if step.ask == want.address.call))


def _stop(address: Address, asked: int, by: str) -> Send:
    name = address.call if address.kind == "tool" else address.step
    return Send(asked=asked, address=address, verb="cancel", id=f"cmd_cancel-{name}", body={"by": by})


def _create_agent(state: RunState, request: RunRequested, step: Step) -> Create:
    role = request.roles[step.spec.role]
    planner = step.spec.id == PLANNER and state.plan is None
    gate = step.spec.gate is not None
    fact = AgentRequested(
        step=step.id,
        key=step.spec.id,
        role=step.spec.role,
        attempt=step.attempt,
        brief=_planner_brief(state, request, step) if planner else _brief(state, request, step),
        definition=role.definition,
        model=role.model,
        tools={name: request.tools[name] for name in role.tools if name in request.tools},
        files=state.head,
        writes=step.spec.writes,
        expects=step.spec.expects,
        validate=step.spec.validate,
        gate=gate,
        planner=planner,
        plan_roles=tuple(sorted(set(request.roles) - {PLANNER})) if planner else (),
        approve=request.approve,
        limits=request.limits,
    )
    return Create(asked=step.started, address=state.address.at(step.actor), fact=fact, to=f"start-{step.spec.role}")


def _planner_brief(state: RunState, request: RunRequested, step: Step) -> str:
    del state
    roles = {name: role.description for name, role in request.roles.items() if name != PLANNER}
    return planner_brief(goal=request.goal, roles=roles, faults=step.findings[0].message if step.findings else "")


def _brief(state: RunState, request: RunRequested, step: Step) -> str:
    before = state.before.get(step.spec.id, frozenset())
    summaries = {key: other.summary for key, other in state.steps.items() if key in before and other.summary}
    return step_brief(
        goal=request.goal,
        step=step.spec,
        summaries=summaries,
        artifacts=state.artifacts,
        paths=sorted(state.head),
        findings=() if step.spec.gate else step.findings,
        conflicts=step.conflicts,
    )


def _create_question(state: RunState, step: Step) -> Create:
    gate = step.spec.gate
    shown = {
        "gate": step.spec.id,
        "summary": step.summary,
        "rounds": step.rounds,
        "findings": [f"{finding.step}: {finding.message}" for finding in step.findings],
        "rework": list(gate.rework) if gate else [],
    }
    fact = ToolRequested(
        tool="gate",
        arguments=msgspec.Raw(msgspec.json.encode(shown)),
        effect="read",
        owner="run",
        key=step.spec.id,
        role=step.spec.role,
        kind="gate",
        risk="high",
    )
    return Create(asked=step.asked, address=state.address.at("-", step.ask), fact=fact, to=f"tool-{fact.pool}")


def route(state: RunState, fact: Fact) -> str:
    """Return who must act on `fact`."""
    del state
    return "run" if isinstance(fact, RunRequested | RunCancelRequested) else "-"


def open_actors(state: RunState) -> list[Address]:
    """Return the agents and the questions the run waits for."""
    agents = [state.address.at(step.actor) for step in state.open_steps()]
    return agents + [state.address.at("-", step.ask) for step in state.steps.values() if step.ask]


RUN: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
