"""What a run knows: its plan, how each step stands, the head of its files. A pure fold of the run's own facts."""

from collections.abc import Mapping
from typing import Final, Literal

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
    RunChildEnded,
    RunChildRequested,
    RunEnd,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    RunTurnFailed,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    TimerSet,
)
from events.subjects import Address

PLANNER = "planner"
End = RunEnd
StepStatus = Literal["pending", "open", "done", "failed", "asking", "giving_up", "given_up", "canceled"]
ERRORS_MAX: Final = 20
ERROR_CHARS_MAX: Final = 500
AFTER_FAILURE: Final[Mapping[str, StepStatus]] = {
    "retry": "pending",
    "fallback": "pending",
    "ask": "asking",
    "degrade": "giving_up",
    "fail": "failed",
    "stop": "canceled",
}


class Step(msgspec.Struct, frozen=True):
    """How one step of the plan stands. `failures`, `conflicts` and `rounds` are counted against their limits.

    `failures` are those of the role it has now. A human who is asked by the call `ask` answers for a failed gate, or, with
    `gave_out`, for the step itself. `retry_at`, `deadline` and `timed_out_ms` are ms since the epoch, 0 for none; `failed_seq`,
    `deadline_seq` and `timed_out` are sequences, and `lost` is that of the fact by which it failed for good. `errors` are what
    its attempts failed of, the last ones if there are many.
    """

    id: str
    spec: PlanStep
    status: StepStatus = "pending"
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
    lost: int = 0
    errors: tuple[str, ...] = ()
    gave_out: bool = False
    on_fallback: bool = False
    retry_at: int = 0
    deadline: int = 0
    deadline_seq: int = 0
    timed_out: int = 0
    timed_out_ms: int = 0

    @property
    def role(self) -> str:
        """The role that works on it now."""
        return self.spec.fallback if self.on_fallback else self.spec.role


class Child(msgspec.Struct, frozen=True):
    """A run under this one, wanted by the fact at `asked`; `ended` is the fact that took its end in, 0 while it is open."""

    id: str
    request: RunRequested
    asked: int
    step: str
    call: str
    wait: bool
    since_ms: int
    ended: int = 0
    status: str = ""


class RunState(msgspec.Struct, frozen=True):
    """One run."""

    address: Address
    seen: Seen = Seen()
    request: RunRequested | None = None
    requested_ms: int = 0
    started: bool = False
    deadline: int = 0
    deadline_seq: int = 0
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
    paused_ms: int = 0
    held_seq: int = 0
    held_at: int = 0
    held_by: str = ""
    held_reason: str = ""
    children: dict[str, Child] = {}
    end: End | None = None

    def open_steps(self) -> list[Step]:
        """The steps with an attempt under way."""
        return [step for step in self.steps.values() if step.status == "open"]

    def open_children(self) -> list[Child]:
        """The runs under this one that have not ended."""
        return [child for child in self.children.values() if not child.ended]

    def failed_step(self) -> Step | None:
        """The first step that failed for good, if any."""
        failed = [step for step in self.steps.values() if step.status == "failed"]
        return min(failed, key=lambda step: step.failed_seq, default=None)

    def stopping(self) -> bool:
        """Whether nothing new may start, because the run was canceled or a step failed for good."""
        return self.cancel is not None or self.failed_step() is not None

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
            state = replace(state, purse=purse.opened(fact, record))
            state = replace(state, request=fact, requested_ms=record.time_ms, plan=fact.plan, head=fact.files)
            state = _lay_out(state, fact.plan or Plan(steps=(planner_step(),)))
            return _carry(state, fact.carried) if fact.carried else state
        case RunStarted(deadline=deadline):
            return replace(state, started=True, deadline=deadline, deadline_seq=record.seq)
        case PlanAccepted(plan=plan, usage=usage):
            state = replace(state, plan=plan, usage=state.usage + usage)
            return _lay_out(state, plan)
        case TimerSet() as fact:
            interval = fact.at - record.time_ms
            return replace(state, watch=fact, watch_seq=record.seq, watch_interval_ms=interval, moved=False)
        case RunCancelRequested() as fact:
            return replace(state, cancel=fact, cancel_seq=record.seq, cancel_ms=record.time_ms)
        case RunChildRequested() | RunChildEnded() as fact:
            return _take_child(state, fact, record)
        case RunPaused() | RunResumed() as fact:
            return _take_hold(_move_deadlines(state, fact, record), fact, record.seq)
        case RunSucceeded() | RunFailed() | RunCanceled() | RunTimedOut() as fact:
            return replace(state, end=fact)
        case RunTurnFailed(message=message):
            return replace(state, seen=state.seen.failed(message))
        case _:
            return _take_step(state, record)


def _take_child(state: RunState, fact: RunChildRequested | RunChildEnded, record: Record) -> RunState:
    match fact:
        case RunChildRequested():
            child = Child(
                id=fact.child,
                request=fact.request,
                asked=record.seq,
                step=fact.step,
                call=fact.call,
                wait=fact.wait,
                since_ms=record.time_ms,
            )
        case RunChildEnded():
            child = replace(state.children[fact.child], ended=record.seq, status=fact.status)
    return replace(state, children=state.children | {child.id: child})


def _take_hold(state: RunState, fact: RunPaused | RunResumed, seq: int) -> RunState:
    return replace(
        state,
        paused=fact if isinstance(fact, RunPaused) else None,
        held_seq=seq,
        held_at=max(state.held_at, fact.at),
        held_by=fact.by,
        held_reason=fact.reason,
    )


def _move_deadlines(state: RunState, fact: RunPaused | RunResumed, record: Record) -> RunState:
    """Take the time of a pause out of every deadline: it was nobody's."""
    if isinstance(fact, RunPaused):
        return replace(state, paused_ms=record.time_ms) if state.paused is None else state
    if state.paused is None:
        return state
    later = max(record.time_ms - state.paused_ms, 0)
    steps = {
        key: replace(step, deadline=step.deadline + later, deadline_seq=record.seq)
        for key, step in state.steps.items()
        if step.deadline
    }
    deadline = (state.deadline + later, record.seq) if state.deadline else (0, 0)
    return replace(state, steps=state.steps | steps, deadline=deadline[0], deadline_seq=deadline[1])


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
                state.steps[fact.key],
                status="open",
                attempt=fact.attempt,
                actor=fact.actor,
                started=record.seq,
                deadline=fact.deadline,
                deadline_seq=record.seq,
                retry_at=0,
                timed_out=0,
            )
            return _put(state, step)
        case StepSucceeded() as fact:
            step = replace(state.steps[fact.key], status="done", summary=fact.summary, findings=(), conflicts=())
            state = replace(state, head=merged(state.head, fact.changes))
            return _put(_count(state, fact.usage, fact.artifacts), step)
        case StepConflicted() as fact:
            step = state.steps[fact.key]
            step = replace(step, status="pending", conflicts=fact.paths, conflicted=step.conflicted + 1)
            step = _erred(step, fact.attempt, "conflict", f"others changed {', '.join(fact.paths)} meanwhile")
            return _put(_count(state, fact.usage), step)
        case StepFailed() as fact:
            return _put(_count(state, fact.usage), _fail(state.steps[fact.key], fact, record.seq))
        case StepTimedOut() as fact:
            step = replace(state.steps[fact.key], timed_out=record.seq, timed_out_ms=record.time_ms)
            return _put(state, step)
        case StepGivenUp() as fact:
            step = state.steps[fact.key]
            lost = step.lost or record.seq
            return _put(state, replace(step, status="given_up", lost=lost, ask="", gave_out=False))
        case StepReopened() as fact:
            return _put(state, _reopen(state.steps[fact.key], fact))
        case StepCanceled() as fact:
            return _put(_count(state, fact.usage), replace(state.steps[fact.key], status="canceled"))
        case _:
            return _take_gate(state, record)


def _fail(step: Step, fact: StepFailed, seq: int) -> Step:
    next_ = fact.next or ("fail" if fact.final else "retry")
    finding = Finding(step=fact.key, message=f"{fact.code}: {fact.reason}", severity="high")
    return replace(
        _erred(step, fact.attempt, fact.code, fact.reason),
        status=AFTER_FAILURE[next_],
        failures=0 if next_ == "fallback" else step.failures + 1,
        on_fallback=step.on_fallback or next_ == "fallback",
        findings=(finding,),
        fault=fact.reason,
        code=fact.code,
        failed_seq=seq,
        lost=seq if next_ in ("degrade", "fail") else 0,
        retry_at=fact.retry_at,
        ask=fact.ask,
        asked=seq if fact.ask else step.asked,
        gave_out=next_ == "ask",
    )


def _erred(step: Step, attempt: int, code: str, reason: str) -> Step:
    """Keep what an attempt failed of, for the step's dead letter."""
    error = f"attempt {attempt} ({step.role}): {code}: {reason}"[:ERROR_CHARS_MAX]
    return replace(step, errors=(*step.errors, error)[-ERRORS_MAX:])


def _reopen(step: Step, fact: StepReopened) -> Step:
    said = Finding(step=fact.key, message=f"{fact.by}: {fact.comment}", severity="high")
    return replace(
        step,
        status="pending",
        ask="",
        gave_out=False,
        failures=0,
        conflicted=0,
        failed_seq=0,
        lost=0,
        on_fallback=False,
        findings=(*step.findings, said) if fact.comment else step.findings,
    )


def _take_gate(state: RunState, record: Record) -> RunState:
    match record.fact:
        case GatePassed() as fact:
            step = replace(state.steps[fact.key], status="done", summary=fact.verdict.summary)
            return _put(_count(state, fact.usage), step)
        case GateFailed() as fact:
            step = state.steps[fact.key]
            findings = fact.verdict.findings
            step = replace(step, rounds=fact.round, findings=findings, summary=fact.verdict.summary)
            step = _erred(step, fact.attempt, "gate_failed", fact.verdict.summary)
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
