"""The run actor: plan, dispatch of ready steps, gates and rework, merge of files, the end. It folds its own facts only."""

from typing import Final

from actors.decider import (
    TURNS_FAILED_MAX,
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
from actors.run_budget import WALL, AgentAsked, RaiseBudget, asked, dispatch, raised, requests, wall_over
from actors.run_letters import ReopenStep, letters_wanted, reopen
from actors.run_pause import held, hold
from actors.run_results import AgentEnded, CallEnded, agent_ended, call_ended
from actors.run_state import RunState, Step, evolve
from actors.run_wants import create
from events.budget import BudgetRaised
from events.fact import Fact
from events.ids import derive
from events.run import (
    RunCanceled,
    RunCancelRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTurnFailed,
    StepReopened,
    StepStarted,
    TimerSet,
)
from events.subjects import Address

CANCEL_TIMER: Final = "cancel"
CANCEL_GRACE_MS: Final = 10_000
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
        case AgentEnded():
            return agent_ended(state, state.request, command)
        case AgentAsked():
            return asked(state, command)
        case RaiseBudget():
            return raised(state, command)
        case CallEnded():
            return call_ended(state, command)
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
    if state.paused is not None:
        return []
    if (failed := state.failed_step()) is not None:
        if state.open_steps():
            return []
        return [RunFailed(code=failed.code, reason=failed.fault, step=failed.spec.id)]
    started = dispatch(state, [_start(state, step) for step in _ready(state)], command.now_ms)
    if started or state.plan is None:
        return started
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


def _timer_fired(state: RunState, timer: str, command: Command) -> list[Fact]:
    if timer == CANCEL_TIMER and state.cancel is not None:
        return [RunCanceled(by=state.cancel.by, reason=state.cancel.reason)]
    if timer == WALL:
        return wall_over(state, command)
    if state.watch is None or timer != state.watch.timer:
        return []
    interval = WATCH_MS if state.moved else min(state.watch_interval_ms * 2, WATCH_MS_MAX)
    return [_watch(state, interval, command)]


def pending(state: RunState) -> list[Request]:
    """Return what is asked and not answered: agents to begin, questions to put, stops and pauses to send, timers to set."""
    if state.request is None:
        return []
    found: list[Request] = [*letters_wanted(state)]
    if state.end is not None:
        return [*found, *_stops(state, by=f"run {state.address.run} has ended", asked=state.seen.last)]
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
    if state.cancel is not None:
        found += _stops(state, by=state.cancel.by, asked=state.cancel_seq)
        found.append(Schedule(asked=state.cancel_seq, timer=CANCEL_TIMER, at_ms=state.cancel_ms + CANCEL_GRACE_MS))
    elif (failed := state.failed_step()) is not None:
        found += _stops(state, by=f"step {failed.spec.id} failed", asked=state.seen.last)
    else:
        found += held(state, [(state.address.at(step.actor), step.started) for step in state.open_steps()])
    return found


def _stops(state: RunState, *, by: str, asked: int) -> list[Send]:
    return [_stop(address, asked, by) for address in open_actors(state)]


def _stop(address: Address, asked: int, by: str) -> Send:
    name = address.call if address.kind == "tool" else address.step
    return Send(asked=asked, address=address, verb="cancel", id=f"cmd_cancel-{name}", body={"by": by})


def route(state: RunState, fact: Fact) -> str:
    """Return who must act on `fact`; an end that leaves something open still has stops to send."""
    match fact:
        case RunRequested() | StepReopened() | RunCancelRequested() | RunPaused() | RunResumed() | BudgetRaised():
            return "run"
        case RunSucceeded() | RunFailed() | RunCanceled():
            return "run" if open_actors(state) else "-"
        case _:
            return "-"


def open_actors(state: RunState) -> list[Address]:
    """Return the agents and the questions the run waits for."""
    agents = [state.address.at(step.actor) for step in state.open_steps()]
    return agents + [state.address.at("-", step.ask) for step in state.steps.values() if step.status == "asking"]


RUN: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
