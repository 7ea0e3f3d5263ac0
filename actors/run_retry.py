"""What follows an attempt without a result: another one, the fallback role, a human, going on without the step, or the run's end.

Attempts are counted by the run's own facts. Pure.
"""

from typing import Final, Literal

from actors.backoff import backoff_ms
from actors.decider import Command, Request, Schedule, Send, TimerFired, is_due
from actors.run_state import RunState, Step
from events.fact import Fact, Usage
from events.ids import derive
from events.plan import Retry
from events.run import RunCancelRequested, RunRequested, StepFailed, StepGivenUp, StepReopened, StepTimedOut
from events.tool import ToolCompleted

UNHEALED: Final = frozenset({"validation", "invalid_plan", "turns_max", "refused", "conflict", "gate_failed"})
"""What waiting does not heal: the next attempt begins at once, with the findings."""
GRACE_MS: Final = 10_000
"""How long the agent of an attempt that timed out may take to stop."""
RETRY: Final = "retry-"
DUE: Final = "due-"
GRACE: Final = "grace-"
DEADLINE: Final = "deadline"

Next = Literal["retry", "fallback", "ask", "degrade", "fail", "stop"]


def attempts_max(request: RunRequested, step: Step) -> int:
    """Return how many attempts each role of the step has."""
    return (step.spec.retry or Retry()).attempts_max or request.limits.attempts_max


def timeout_seconds(request: RunRequested, step: Step) -> float:
    """Return how long an attempt may take; 0 is no limit."""
    own = step.spec.timeout_seconds
    return request.limits.step_seconds if own is None else own


def failed(
    state: RunState,
    step: Step,
    command: Command,
    *,
    seq: int,
    code: str,
    reason: str,
    final: bool = False,
    usage: Usage | None = None,
) -> StepFailed:
    """Return that the step's attempt failed by the agent's fact at `seq`, and what follows; `final`: its role cannot do it."""
    request = state.request
    assert request is not None
    next_ = "stop" if state.stopping() else _next(request, step, final=final)
    if step.spec.on_failure == "degrade" and next_ == "fail":
        reason = f"{reason}\nthe plan would go on without this step, but the run does not allow it (--allow-degraded)"
    return StepFailed(
        step=step.id,
        key=step.spec.id,
        attempt=step.attempt,
        seq=seq,
        code=code,
        reason=reason,
        final=next_ == "fail",
        usage=usage or Usage(),
        next=next_,
        retry_at=_retry_at(state, step, code, command.now_ms) if next_ == "retry" else 0,
        ask=derive("call", command.now_ms, str(state.address), step.id, "step", step.attempt) if next_ == "ask" else "",
    )


def _next(request: RunRequested, step: Step, *, final: bool) -> Next:
    if not final and step.failures + 1 < attempts_max(request, step):
        return "retry"
    if step.spec.fallback and not step.on_fallback:
        return "fallback"
    if step.spec.on_failure == "degrade" and not request.degrade:
        return "fail"
    return step.spec.on_failure


def _retry_at(state: RunState, step: Step, code: str, now_ms: int) -> int:
    retry = step.spec.retry or Retry()
    if code in UNHEALED or not retry.backoff_seconds:
        return 0
    first, most = round(retry.backoff_seconds * 1000), round(retry.backoff_seconds_max * 1000)
    return now_ms + backoff_ms(state.address.at(step.actor), step.failures + 1, first_ms=first, most_ms=most)


def given_up(state: RunState) -> list[Fact]:
    """Return which steps the run goes on without, as their plan says."""
    return [_give_up(step) for step in state.steps.values() if step.status == "giving_up"]


def _give_up(step: Step, by: str = "", comment: str = "") -> StepGivenUp:
    reason = f"{step.fault}\n{by}: {comment}" if comment else step.fault
    return StepGivenUp(step=step.id, key=step.spec.id, attempt=step.attempt, code=step.code, reason=reason, by=by)


def answered(state: RunState, step: Step, end: Fact) -> list[Fact]:
    """Return what a human's answer for a failed step makes of it: go on without it, try again, or let the run fail."""
    key, reason = step.spec.id, f"nobody answered for it: {step.fault}"
    match end:
        case ToolCompleted(data={"decision": "approve", "by": str(by), "comment": str(comment)}):
            return [_give_up(step, by, comment)]
        case ToolCompleted(data={"decision": "respond", "by": str(by), "comment": str(comment)}):
            return [StepReopened(step=step.id, key=key, by=by, comment=comment)]
        case ToolCompleted(data={"by": str(by), "comment": str(comment)}):
            reason = f"{by} let the run fail: {comment or step.fault}"
        case _:
            pass
    attempt, seq = step.attempt, state.seen.last
    return [
        StepFailed(
            step=step.id, key=key, attempt=attempt, seq=seq, code=step.code, reason=reason, final=True, next="fail"
        )
    ]


def timed_out(state: RunState, step: Step, command: Command, *, seq: int, usage: Usage | None = None) -> StepFailed:
    """Return that an attempt whose time was over has failed, whatever its agent brought at the end."""
    assert state.request is not None
    reason = f"no result within {timeout_seconds(state.request, step):g} s"
    return failed(state, step, command, seq=seq, code="timeout", reason=reason, usage=usage)


def timer_fired(state: RunState, command: TimerFired) -> list[Fact]:
    """Return what the timer of an attempt brings; one of an attempt that is over brings nothing."""
    timer = command.timer
    step = state.step_of(timer.partition("-")[2])
    if step is None or step.status != "open" or state.stopping() or state.request is None:
        return []
    grace_ms = step.timed_out_ms + GRACE_MS
    if timer.startswith(GRACE) and step.timed_out and is_due(command, asked=step.timed_out, at_ms=grace_ms):
        return [timed_out(state, step, command, seq=0)]
    if timer.startswith(DUE) and not step.timed_out and not state.paused and _over(command, step):
        seconds = timeout_seconds(state.request, step)
        return [StepTimedOut(step=step.id, key=step.spec.id, attempt=step.attempt, seconds=seconds)]
    return []


def _over(command: TimerFired, step: Step) -> bool:
    return is_due(command, asked=step.deadline_seq, at_ms=step.deadline)


def deadline_passed(state: RunState, command: TimerFired) -> list[Fact]:
    """Return that the run's time is over, unless it is paused or stops anyway; the timer comes again with the resume."""
    over = is_due(command, asked=state.deadline_seq, at_ms=state.deadline)
    if state.cancel is not None or state.paused is not None or state.request is None or not over:
        return []
    reason = f"not done within its run_seconds, {state.request.limits.run_seconds:g}"
    return [RunCancelRequested(by="its deadline", reason=reason, timed_out=True)]


def retried(state: RunState, command: TimerFired) -> Step | None:
    """Return the step that waits for just this timer to be tried again, if any."""
    timer = command.timer
    step = state.step_of(timer.removeprefix(RETRY)) if timer.startswith(RETRY) else None
    if step is None or step.status != "pending":
        return None
    return step if is_due(command, asked=step.failed_seq, at_ms=step.retry_at) else None


def retrying(state: RunState) -> list[Step]:
    """Return the steps that wait for their time to be tried again."""
    return [step for step in state.steps.values() if step.status == "pending" and step.retry_at]


def retry_timer(step: Step) -> str:
    """Return the name of the timer that such a step waits for."""
    return f"{RETRY}{step.actor}"


def timers(state: RunState) -> list[Request]:
    """Return the timers of the run and of its steps, and the stops of the attempts whose time is over."""
    found: list[Request] = []
    if state.deadline:
        found.append(Schedule(asked=state.deadline_seq, timer=DEADLINE, at_ms=state.deadline))
    for step in state.steps.values():
        if step.status == "pending" and step.retry_at:
            found.append(Schedule(asked=step.failed_seq, timer=retry_timer(step), at_ms=step.retry_at))
        elif step.status == "open" and step.timed_out:
            found += _stopping(state, step)
        elif step.status == "open" and step.deadline:
            found.append(Schedule(asked=step.deadline_seq, timer=f"{DUE}{step.actor}", at_ms=step.deadline))
    return found


def _stopping(state: RunState, step: Step) -> list[Request]:
    asked, by = step.timed_out, f"the timeout of step {step.spec.id}"
    stop = Send(
        asked=asked,
        address=state.address.at(step.actor),
        verb="cancel",
        id=f"cmd_cancel-{step.actor}",
        body={"by": by, "reason": "its time is over"},
    )
    return [stop, Schedule(asked=asked, timer=f"{GRACE}{step.actor}", at_ms=step.timed_out_ms + GRACE_MS)]
