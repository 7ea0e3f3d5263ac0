"""The run actor: plan, dispatch of ready steps, gates and rework, merge of files, the end. It folds its own facts only."""

from typing import Final

from actors.decider import (
    TURNS_FAILED_MAX,
    Cancel,
    Command,
    Decider,
    Refused,
    Request,
    Schedule,
    Send,
    TimerFired,
    TurnRaised,
    Want,
)
from actors.run_results import AgentEnded, CallEnded, agent_ended, call_ended
from actors.run_state import RunState, Step, evolve
from actors.run_wants import create
from events.fact import Fact
from events.ids import derive
from events.run import (
    RunCanceled,
    RunCancelRequested,
    RunFailed,
    RunRequested,
    RunStarted,
    RunSucceeded,
    RunTurnFailed,
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
        case Cancel() if state.end is not None and not isinstance(state.end, RunCanceled):
            raise Refused("run_ended", "the run has ended; nothing is left to cancel", recorded=state.end)
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel(by=by, reason=reason):
            return [] if state.cancel else [RunCancelRequested(by=by, reason=reason)]
        case AgentEnded():
            return agent_ended(state, state.request, command)
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


def _stop(address: Address, asked: int, by: str) -> Send:
    name = address.call if address.kind == "tool" else address.step
    return Send(asked=asked, address=address, verb="cancel", id=f"cmd_cancel-{name}", body={"by": by})


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
