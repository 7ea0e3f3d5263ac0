"""What a run knows: its plan, how each step stands, the head of its files. A pure fold of the run's own facts."""

from typing import Literal

import msgspec
from msgspec.structs import replace

from actors import purse
from actors.decider import Seen
from actors.purse import Purse
from events.envelope import Record
from events.fact import Artifact, Changes, File, Finding, Usage
from events.ids import derive
from events.plan import Plan, PlanStep, ancestors, descendants
from events.run import (
    Carried,
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunCancelRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTurnFailed,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepReopened,
    StepStarted,
    StepSucceeded,
    TimerSet,
)
from events.subjects import Address

PLANNER = "planner"
End = RunSucceeded | RunFailed | RunCanceled


class Step(msgspec.Struct, frozen=True):
    """How one step of the plan stands. `failures`, `conflicts` and `rounds` are counted against their limits."""

    id: str
    spec: PlanStep
    status: Literal["pending", "open", "done", "failed", "asking", "canceled"] = "pending"
    attempt: int = 0
    actor: str = ""
    started: int = 0
    findings: tuple[Finding, ...] = ()
    conflicts: tuple[str, ...] = ()
    failures: int = 0
    conflicted: int = 0
    rounds: int = 0
    ask: str = ""
    asked: int = 0
    summary: str = ""
    fault: str = ""
    code: str = ""
    failed_seq: int = 0


class RunState(msgspec.Struct, frozen=True):
    """One run."""

    address: Address
    seen: Seen = Seen()
    request: RunRequested | None = None
    requested_ms: int = 0
    started: bool = False
    plan: Plan | None = None
    before: dict[str, frozenset[str]] = {}
    steps: dict[str, Step] = {}
    head: dict[str, File] = {}
    artifacts: dict[str, Artifact] = {}
    usage: Usage = Usage()
    watch: TimerSet | None = None
    watch_seq: int = 0
    watch_interval_ms: int = 0
    moved: bool = False
    purse: Purse | None = None
    cancel: RunCancelRequested | None = None
    cancel_seq: int = 0
    cancel_ms: int = 0
    paused: RunPaused | None = None
    held_seq: int = 0
    held_at: int = 0
    held_by: str = ""
    held_reason: str = ""
    end: End | None = None

    def open_steps(self) -> list[Step]:
        """The steps with an attempt under way."""
        return [step for step in self.steps.values() if step.status == "open"]

    def failed_step(self) -> Step | None:
        """The first step that failed for good, if any."""
        return next((step for step in self.steps.values() if step.status == "failed"), None)

    def step_of(self, actor: str) -> Step | None:
        """The step whose attempt stands at `actor`."""
        return next((step for step in self.steps.values() if step.actor == actor), None)


def step_id(state: RunState, key: str) -> str:
    """Return a step's id: derived from the run's, so that deciding twice names it the same."""
    return derive("stp", state.requested_ms, state.address.run, key)


def planner_step() -> PlanStep:
    """Return the step that makes the plan of a run that has none."""
    return PlanStep(id=PLANNER, role=PLANNER, title="Make the plan", task="Make the plan")


def evolve(state: RunState, record: Record) -> RunState:
    """Take a stored fact of the run in."""
    state = replace(state, seen=state.seen.take(record), moved=True)
    if state.purse is not None:
        state = replace(state, purse=purse.take(state.purse, record))
    match record.fact:
        case RunRequested() as fact:
            state = replace(state, request=fact, requested_ms=record.time_ms, plan=fact.plan)
            state = replace(state, purse=purse.opened(fact, record))
            state = _lay_out(state, fact.plan or Plan(steps=(planner_step(),)))
            return _carry(state, fact.carried) if fact.carried else state
        case RunStarted():
            return replace(state, started=True)
        case PlanAccepted(plan=plan, usage=usage):
            state = replace(state, plan=plan, usage=state.usage + usage)
            return _lay_out(state, plan)
        case TimerSet() as fact:
            interval = fact.at - record.time_ms
            return replace(state, watch=fact, watch_seq=record.seq, watch_interval_ms=interval, moved=False)
        case RunCancelRequested() as fact:
            return replace(state, cancel=fact, cancel_seq=record.seq, cancel_ms=record.time_ms)
        case RunPaused() | RunResumed() as fact:
            return _take_hold(state, fact, record.seq)
        case RunSucceeded() | RunFailed() | RunCanceled() as fact:
            return replace(state, end=fact)
        case RunTurnFailed(message=message):
            return replace(state, seen=state.seen.failed(message))
        case _:
            return _take_step(state, record)


def _take_hold(state: RunState, fact: RunPaused | RunResumed, seq: int) -> RunState:
    return replace(
        state,
        paused=fact if isinstance(fact, RunPaused) else None,
        held_seq=seq,
        held_at=max(state.held_at, fact.at),
        held_by=fact.by,
        held_reason=fact.reason,
    )


def _lay_out(state: RunState, plan: Plan) -> RunState:
    steps = {spec.id: Step(id=step_id(state, spec.id), spec=spec) for spec in plan.steps}
    return replace(state, steps=steps, before=ancestors(plan))


def _carry(state: RunState, carried: Carried) -> RunState:
    """Go on from what another run had done."""
    steps = {
        each.key: replace(state.steps[each.key], status="done", summary=each.summary)
        for each in carried.steps
        if each.key in state.steps
    }
    named = {artifact.name: artifact for artifact in carried.artifacts}
    return replace(state, steps=state.steps | steps, head=carried.head, artifacts=named)


def _take_step(state: RunState, record: Record) -> RunState:
    match record.fact:
        case StepStarted() as fact:
            step = replace(
                state.steps[fact.key], status="open", attempt=fact.attempt, actor=fact.actor, started=record.seq
            )
            return _put(state, step)
        case StepSucceeded() as fact:
            step = replace(state.steps[fact.key], status="done", summary=fact.summary, findings=(), conflicts=())
            state = replace(state, head=merged(state.head, fact.changes))
            return _put(_count(state, fact.usage, fact.artifacts), step)
        case StepConflicted() as fact:
            step = state.steps[fact.key]
            step = replace(step, status="pending", conflicts=fact.paths, conflicted=step.conflicted + 1)
            return _put(_count(state, fact.usage), step)
        case StepFailed() as fact:
            step = state.steps[fact.key]
            finding = Finding(step=fact.key, message=f"{fact.code}: {fact.reason}", severity="high")
            step = replace(
                step,
                status="failed" if fact.final else "pending",
                failures=step.failures + 1,
                findings=(finding,),
                fault=fact.reason,
                code=fact.code,
                failed_seq=record.seq,
            )
            return _put(_count(state, fact.usage), step)
        case StepReopened() as fact:
            step = replace(state.steps[fact.key], status="pending", failures=0, conflicted=0, failed_seq=0)
            return _put(state, step)
        case StepCanceled() as fact:
            return _put(_count(state, fact.usage), replace(state.steps[fact.key], status="canceled"))
        case _:
            return _take_gate(state, record)


def _take_gate(state: RunState, record: Record) -> RunState:
    match record.fact:
        case GatePassed() as fact:
            step = replace(state.steps[fact.key], status="done", summary=fact.verdict.summary)
            return _put(_count(state, fact.usage), step)
        case GateFailed() as fact:
            step = state.steps[fact.key]
            findings = fact.verdict.findings
            step = replace(step, rounds=fact.round, findings=findings, summary=fact.verdict.summary)
            state = _count(state, fact.usage)
            if fact.ask:
                return _put(state, replace(step, status="asking", ask=fact.ask, asked=record.seq))
            return _send_back(_put(state, replace(step, status="pending")), fact.rework, findings)
        case GateWaived() as fact:
            return _put(state, replace(state.steps[fact.key], status="done", ask=""))
        case GateReopened() as fact:
            step = state.steps[fact.key]
            said = Finding(step="", message=f"{fact.by}: {fact.comment}", severity="high")
            findings = (*step.findings, said)
            return _send_back(_put(state, replace(step, status="pending", ask="")), fact.rework, findings)
        case _:
            return state


def _send_back(state: RunState, rework: tuple[str, ...], findings: tuple[Finding, ...]) -> RunState:
    """Open the steps of `rework` again, each with its findings, and every gate behind them: what passed it has changed."""
    if state.plan is None:
        return state
    behind = descendants(state.plan, rework)
    steps = dict(state.steps)
    for key in rework:
        mine = tuple(finding for finding in findings if finding.step in (key, ""))
        steps[key] = replace(steps[key], status="pending", findings=mine)
    for key in behind:
        if steps[key].spec.gate is not None and steps[key].status == "done":
            steps[key] = replace(steps[key], status="pending")
    return replace(state, steps=steps)


def _put(state: RunState, step: Step) -> RunState:
    return replace(state, steps=state.steps | {step.spec.id: step})


def _count(state: RunState, usage: Usage, artifacts: tuple[Artifact, ...] = ()) -> RunState:
    named = {artifact.name: artifact for artifact in artifacts}
    return replace(state, usage=state.usage + usage, artifacts=state.artifacts | named)


def merged(head: dict[str, File], changes: Changes) -> dict[str, File]:
    """Return `head` with `changes` taken in; they were found to fit before they became a fact."""
    files = dict(head)
    for path, (_, after) in changes.items():
        if after is None:
            files.pop(path, None)
        else:
            files[path] = after
    return files
