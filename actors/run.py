"""The run actor: plan, dispatch of ready steps, gates and rework, merge of files, the end. It folds its own facts only."""

from typing import Final

from msgspec.structs import replace

from actors import run_retry
from actors.child import ChildDone
from actors.decider import (
    TURNS_FAILED_MAX,
    Advance,
    Cancel,
    Command,
    Decider,
    Pause,
    Refused,
    Request,
    Schedule,
    Send,
    Terminate,
    TimerFired,
    TurnRaised,
    Want,
)
from actors.run_budget import (
    WALL,
    AgentAsked,
    RaiseBudget,
    asked,
    dispatch,
    raised,
    requests,
    wall_over,
)
from actors.run_children import (
    Spawn,
    abandoned,
    address_of,
    child_done,
    depth_of,
    reported,
    spawn,
    told,
)
from actors.run_children import wanted as wanted_children
from actors.run_claims import AllotBudget, allotted, handed_back, reserve, returned
from actors.run_letters import ReopenStep, letters_wanted, reopen
from actors.run_pause import held, hold
from actors.run_results import AgentEnded, CallEnded, agent_ended, call_ended
from actors.run_state import RunState, Step, evolve
from actors.run_wants import create
from actors.workspace_budget import ReserveBudget, ReturnBudget
from events.budget import BudgetExhausted, BudgetRaised
from events.fact import Fact
from events.ids import derive
from events.run import (
    RunCanceled,
    RunCancelRequested,
    RunChildRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    RunTurnFailed,
    StepReopened,
    StepStarted,
    TimerSet,
)
from events.subjects import Address

CANCEL_TIMER: Final = "cancel"
CANCEL_GRACE_MS: Final = 10_000
OVER: Final = frozenset({"done", "given_up"})
WATCH_MS: Final = 60_000
WATCH_MS_MAX: Final = 3_600_000


class StartRun(Command, frozen=True, kw_only=True):
    """A door accepted a goal."""

    request: RunRequested


def initial(address: Address) -> RunState:
    return RunState(address=address)


def decide(state: RunState, command: Command) -> list[Fact]:
    """Answer a command with facts; raises Refused where a person must be told no."""
    match command:
        case StartRun(request=request):
            return [] if state.request else [request]
        case RaiseBudget() if state.end is not None:
            raise Refused("run_ended", "the run has ended; nothing is left to spend a budget on", recorded=state.end)
        case Cancel() if state.end is not None and not isinstance(state.end, RunCanceled):
            raise Refused("run_ended", "the run has ended; nothing is left to cancel", recorded=state.end)
        case Spawn() if state.request is not None:
            return spawn(state, state.request, command)
        case Pause() if state.request is not None:
            return hold(state, command)
        case ReopenStep() if state.request is not None:
            return reopen(state, command)
        case _ if state.request is None or state.end is not None:
            return []
        case Terminate(by=by, reason=reason):
            return [RunCanceled(by=by, reason=reason)]
        case Cancel(by=by, reason=reason):
            return [] if state.cancel else [RunCancelRequested(by=by, reason=reason)]
        case ChildDone():
            return child_done(state, command)
        case AgentEnded():
            return agent_ended(state, command)
        case AgentAsked():
            return asked(state, command)
        case RaiseBudget():
            return raised(state, command)
        case AllotBudget():
            return allotted(state, command)
        case ReserveBudget():
            return reserve(state, command)
        case ReturnBudget():
            return returned(state, command)
        case CallEnded():
            return call_ended(state, command)
        case TimerFired():
            return _timer_fired(state, state.request, command)
        case TurnRaised(message=message, error=error):
            return [RunTurnFailed(message=message, error=error)]
        case _:
            return _advance(state, state.request, command)


def _advance(state: RunState, request: RunRequested, command: Command) -> list[Fact]:
    if state.end is not None:
        return []
    if state.cancel is not None:
        return [] if _open(state) else [_stopped(state.cancel)]
    if max(state.seen.turns_failed.values(), default=0) >= TURNS_FAILED_MAX:
        return [RunFailed(code="dead_letter", reason="its turns kept failing inside the engine")]
    if not state.started:
        seconds = request.limits.run_seconds
        return [RunStarted(deadline=state.requested_ms + round(seconds * 1000) if seconds else 0)]
    if state.watch is None:
        return [_watch(state, WATCH_MS, command)]
    if state.paused is not None:
        return []
    if (failed := state.failed_step()) is not None:
        if _open(state):
            return []
        return [RunFailed(code=failed.code, reason=failed.fault, step=failed.spec.id)]
    if given_up := run_retry.given_up(state):
        return given_up
    ready = [_start(state, request, step, now_ms=command.now_ms) for step in _ready(state, command.now_ms)]
    started = dispatch(state, ready, command.now_ms)
    if started or state.plan is None:
        return started
    over = all(step.status in OVER for step in state.steps.values()) and not state.open_children()
    return [_finish(state)] if over else []


def _open(state: RunState) -> bool:
    return bool(state.open_steps() or state.open_children())


def _finish(state: RunState) -> RunSucceeded | RunFailed:
    done = [step for step in state.steps.values() if step.status == "done"]
    without = tuple(key for key, step in state.steps.items() if step.status == "given_up")
    if not done:
        return RunFailed(code="nothing_done", reason=f"every step was given up: {', '.join(without)}")
    summary = done[-1].summary or f"{len(done)} steps done"
    return RunSucceeded(summary=summary, degraded=bool(without), given_up=without)


def _stopped(cancel: RunCancelRequested) -> RunCanceled | RunTimedOut:
    return RunTimedOut(reason=cancel.reason) if cancel.timed_out else RunCanceled(by=cancel.by, reason=cancel.reason)


def _watch(state: RunState, interval_ms: int, command: Command) -> TimerSet:
    at = command.now_ms + interval_ms
    return TimerSet(timer=derive("tmr", command.now_ms, str(state.address), at), at=at, purpose="watch")


def out_of_budget(state: RunState, now_ms: int) -> BudgetExhausted | None:
    """Return what the run is out of, also when a raise was too small and only its next turn will say so."""
    if state.purse is None or state.end is not None:
        return None
    if state.purse.exhausted is not None:
        return state.purse.exhausted
    going_on = decide(replace(state, paused=None), Advance(id="", now_ms=now_ms))
    return next((fact for fact in going_on if isinstance(fact, BudgetExhausted)), None)


def _ready(state: RunState, now_ms: int) -> list[Step]:
    def over(key: str) -> bool:
        return state.steps[key].status in OVER

    return [
        step
        for step in state.steps.values()
        if step.status == "pending" and step.retry_at <= now_ms and all(over(key) for key in step.spec.needs)
    ]


def _start(state: RunState, request: RunRequested, step: Step, *, now_ms: int) -> StepStarted:
    attempt = step.attempt + 1
    seconds = run_retry.timeout_seconds(request, step)
    return StepStarted(
        step=step.id,
        key=step.spec.id,
        role=step.role,
        attempt=attempt,
        actor=step.id if attempt == 1 else f"{step.id}-{attempt}",
        title=step.spec.title,
        findings=() if step.spec.gate else step.findings,
        conflicts=step.conflicts,
        attempts_max=step.attempt + run_retry.attempts_max(request, step) - step.failures,
        fallback=step.on_fallback,
        deadline=now_ms + round(seconds * 1000) if seconds else 0,
    )


def _timer_fired(state: RunState, request: RunRequested, command: TimerFired) -> list[Fact]:
    timer = command.timer
    if timer == CANCEL_TIMER and state.cancel is not None:
        return [_stopped(state.cancel)]
    if timer == WALL:
        return wall_over(state, command)
    if timer == run_retry.DEADLINE:
        return run_retry.deadline_passed(state, command)
    if (step := run_retry.retried(state, command)) is not None:
        # The timer itself says that it is time; this worker's clock may be behind the one that set it.
        return _advance(state, request, replace(command, now_ms=max(command.now_ms, step.retry_at)))
    if "-" in timer:
        return run_retry.timer_fired(state, command)
    if state.watch is None or timer != state.watch.timer:
        return []
    # The last interval is told by two clocks, which may have moved apart: below zero it would double for ever.
    interval = WATCH_MS if state.moved else min(max(state.watch_interval_ms * 2, WATCH_MS), WATCH_MS_MAX)
    return [_watch(state, interval, command)]


def pending(state: RunState) -> list[Request]:
    """Return what is asked and not answered: agents to begin, questions to put, stops and pauses to send, timers to set."""
    if state.request is None:
        return []
    found: list[Request] = [*letters_wanted(state)]
    if state.end is not None:
        found += handed_back(state)
        found += _stops(state, by=f"run {state.address.run} has ended", asked=state.seen.last)
        return [*found, *reported(state)]
    if state.watch is not None:
        found.append(Schedule(asked=state.watch_seq, timer=state.watch.timer, at_ms=state.watch.at))
    found += requests(state)
    # Who was asked for exists before it is told to stop or to pause: what is not there can't hear.
    found += [Want(asked=step.started, address=state.address.at(step.actor)) for step in state.open_steps()]
    found += [
        Want(asked=step.asked, address=state.address.at("-", step.ask))
        for step in state.steps.values()
        if step.status == "asking"
    ]
    found += wanted_children(state)
    if state.cancel is not None:
        found += _stops(state, by=state.cancel.by, asked=state.cancel_seq)
        found.append(
            Schedule(asked=state.cancel_seq, timer=CANCEL_TIMER, at_ms=state.cancel_ms + _grace_ms(state.request))
        )
    elif (failed := state.failed_step()) is not None:
        found += _stops(state, by=f"step {failed.spec.id} failed", asked=state.seen.last)
    else:
        found += run_retry.timers(state)
        found += [_stop(address, state.seen.last, "the end of its caller") for address in abandoned(state)]
        found += told(state)
        found += held(
            state,
            [(state.address.at(step.actor), step.started) for step in state.open_steps()]
            + [(address_of(state, child), child.asked) for child in state.open_children()],
        )
    return found


def _grace_ms(request: RunRequested) -> int:
    """A run under another ends before that one's time is up, so that none outlives the run above it."""
    return max(CANCEL_GRACE_MS - 1_000 * depth_of(request), CANCEL_GRACE_MS // 5)


def _stops(state: RunState, *, by: str, asked: int) -> list[Send]:
    return [_stop(address, asked, by) for address in open_actors(state)]


def _stop(address: Address, asked: int, by: str) -> Send:
    name = {"tool": address.call, "agent": address.step, "run": address.run}[address.kind]
    return Send(asked=asked, address=address, verb="cancel", id=f"cmd_cancel-{name}", body={"by": by})


def route(state: RunState, fact: Fact) -> str:
    """Return who must act on `fact`; an end that leaves something open still has stops to send."""
    match fact:
        case RunRequested() | StepReopened() | BudgetRaised() | RunChildRequested():
            return "run"
        case RunCancelRequested() | RunPaused() | RunResumed():
            return "run"
        case RunSucceeded() | RunFailed() | RunCanceled() | RunTimedOut():
            below = state.request is not None and state.request.parent is not None
            return "run" if below or open_actors(state) or handed_back(state) else "-"
        case _:
            return "-"


def open_actors(state: RunState) -> list[Address]:
    """Return the agents, the questions and the runs under it that the run waits for."""
    agents = [state.address.at(step.actor) for step in state.open_steps()]
    asked = [state.address.at("-", step.ask) for step in state.steps.values() if step.status == "asking"]
    return [*agents, *asked, *(address_of(state, child) for child in state.open_children())]


RUN: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
