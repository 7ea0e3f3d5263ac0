"""The agent actor: one attempt at a step. It asks the model, the model asks for tools, until a result stands or a limit is met.

It goes on only when every open call has its end, and only the call's own actor writes one.
"""

from typing import Final

from actors.agent_budget import TakeGrant, ask_for_calls, drawn, granted, overdrawn
from actors.agent_calls import create, next_calls
from actors.agent_child import child_done, with_news
from actors.agent_ending import after_checks, ask, batch_results, checking, conclude, ending_call, fail, fail_model
from actors.agent_model import ModelAnswered, ModelRaised, answered, raised, retry
from actors.agent_pause import begun, hold
from actors.agent_state import AgentState, evolve
from actors.child import ChildDone
from actors.decider import (
    TURNS_FAILED_MAX,
    Advance,
    Cancel,
    Command,
    Decider,
    Nudge,
    Pause,
    Perform,
    Request,
    Schedule,
    Send,
    TakeOver,
    TimerFired,
    TurnRaised,
    Want,
)
from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentFailed,
    AgentReissued,
    AgentRequested,
    AgentResumed,
    AgentSucceeded,
    AgentTurnFailed,
    FromBrief,
    FromEngine,
    ModelFailed,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
)
from events.budget import BudgetAsked
from events.fact import Fact
from events.subjects import Address

RETRY: Final = "retry"


def initial(address: Address) -> AgentState:
    return AgentState(address=address)


def decide(state: AgentState, command: Command) -> list[Fact]:
    """Answer a command with facts."""
    return drawn(state, _decide(state, command), command.now_ms)


def _decide(state: AgentState, command: Command) -> list[Fact]:
    match command:
        case ModelAnswered():
            return answered(state, command)
        case ModelRaised():
            return raised(state, command)
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel():
            return [] if state.cancel else [AgentCancelRequested(by=command.by, reason=command.reason)]
        case Pause():
            return hold(state, command)
        case ChildDone():
            return child_done(state, command)
        case TimerFired(timer=timer) if timer == RETRY and not state.paused:
            return retry(state, command)
        case TakeOver():
            return _take_over(state, command)
        case TakeGrant():
            return granted(state, command)
        case Nudge():
            return _nudged(state, state.request, command)
        case TurnRaised():
            return [AgentTurnFailed(message=command.message, error=command.error)]
        case _:
            return with_news(state, _advance(state, state.request, command))


def _advance(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    if state.end is not None:
        return []
    if state.cancel is not None:
        done = not state.open_calls()
        return [AgentCanceled(by=state.cancel.by, reason=state.cancel.reason, usage=state.usage)] if done else []
    if max(state.seen.turns_failed.values(), default=0) >= TURNS_FAILED_MAX:
        return [fail(state, "dead_letter", "its turns kept failing inside the engine")]
    if told := overdrawn(state):
        return told
    if state.paused or state.asking:
        return []
    if state.model is not None:
        given_up = state.model.failed_seq and not state.model.retry_at
        return [fail_model(state, state.model)] if given_up else retry(state, command)
    if state.unfinished_calls():
        return ask_for_calls(state)
    if state.checked:
        return after_checks(state, request, command)
    if state.turn == 0:
        if state.held and not command.ticket and not state.asked:
            return []  # the resumed agent's place in its role's queue is its ticket
        return _begin(state, request, command)
    return _after_answer(state, request, command)


def _begin(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    if request.gate and request.validate:
        return [checking(state, request, command)]
    return [ModelRequested(turn=1, takes=(FromBrief(),))]


def _after_answer(state: AgentState, request: AgentRequested, command: Command) -> list[Fact]:
    answer = state.answer
    if answer is None:
        return []
    if not state.batch:
        return _without_calls(state, request, answer)
    ending = ending_call(state)
    if ending is None:
        return ask(state, request, batch_results(state))
    return conclude(state, request, command)


def _without_calls(state: AgentState, request: AgentRequested, answer: ModelResponded) -> list[Fact]:
    if answer.stop == "refusal":
        return [fail(state, "refused", "the model refused to go on")]
    if answer.stop == "max_tokens":
        return ask(
            state, request, (FromEngine("Your answer was cut off at its token limit. Go on, in smaller parts."),)
        )
    tool = "submit_verdict" if request.gate else "submit_plan" if request.planner else "finish"
    return ask(
        state, request, (FromEngine(f"Nothing happens without a tool call. When the work is done, call {tool}."),)
    )


def _take_over(state: AgentState, command: TakeOver) -> list[Fact]:
    asked, request = state.model, state.request
    if asked is None or request is None or asked.retry_at or asked.ticket != command.ticket or state.cancel is not None:
        return _decide(state, Advance(id=command.id, now_ms=command.now_ms, ticket=command.ticket))
    if asked.takeovers >= request.limits.takeovers_max:
        reason = f"its worker was lost {asked.takeovers + 1} times in this call"
        return [ModelFailed(turn=asked.turn, epoch=asked.epoch, code="attempts", reason=reason)]
    return [ModelTakenOver(turn=asked.turn, epoch=asked.epoch + 1)]


def _nudged(state: AgentState, request: AgentRequested, command: Nudge) -> list[Fact]:
    """Go on if a notice was missed, or reissue a lost ticket; an agent that waits in its role's queue stays there."""
    if begun(state) or state.cancel is not None or state.asking:
        return with_news(state, _advance(state, request, command)) or _reissue(state, command)
    if state.paused:
        return []
    return [AgentReissued()] if state.ticket <= command.floors.get(state.queue, 0) else []


def _reissue(state: AgentState, command: Nudge) -> list[Fact]:
    asked = state.model
    if asked is not None:
        lost = not asked.failed_seq and asked.ticket <= command.floors.get(asked.queue, 0)
        return [ModelReissued(turn=asked.turn, epoch=asked.epoch + 1)] if lost else []
    return []


def pending(state: AgentState) -> list[Request]:
    """Return what is asked and not answered: the model call, calls to create, calls to cancel, the retry's timer."""
    request, asked = state.request, state.model
    if request is None or state.end is not None:
        return []
    if state.cancel is not None:
        return [
            Send(
                asked=state.cancel_seq,
                address=state.address.at(state.address.step, call.id),
                verb="cancel",
                id=f"cmd_cancel-{call.id}",
                body={"by": state.cancel.by, "reason": state.cancel.reason},
            )
            for call in state.open_calls()
        ]
    if asked is not None and asked.retry_at:
        return [Schedule(asked=asked.failed_seq, timer=RETRY, at_ms=asked.retry_at)]
    if asked is not None and asked.failed_seq:
        return []  # given up: while it is paused nothing follows
    if asked is not None:
        return [Perform(ticket=asked.ticket, epoch=asked.epoch, begun=asked.begun)]
    if state.paused:
        return []
    return [
        Want(asked=call.asked, address=state.address.at(state.address.step, call.id))
        for call in next_calls(state, request)
    ]


def route(state: AgentState, fact: Fact) -> str:
    """Return who must act on `fact`."""
    match fact:
        case AgentRequested(role=role):
            return f"start-{role}"
        case AgentReissued():
            return f"start-{state.request.role}" if state.request else "-"
        case AgentResumed() if state.request is not None and not begun(state):
            return f"start-{state.request.role}"
        case ModelRequested() | ModelReissued():
            return f"agent-{state.request.role}" if state.request else "-"
        case AgentSucceeded() | AgentFailed() | AgentCanceled() | BudgetAsked():
            return "run"
        case _:
            return "-"


def open_actors(state: AgentState) -> list[Address]:
    """Return the calls the agent waits for."""
    return [state.address.at(state.address.step, call.id) for call in state.open_calls()]


AGENT: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)
