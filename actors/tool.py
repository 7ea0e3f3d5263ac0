"""The tool actor: one tool call, from its request over a human's approval to its one outcome."""

from typing import Final

from actors.child import ChildDone
from actors.decider import (
    TURNS_FAILED_MAX,
    Cancel,
    Command,
    Create,
    Decider,
    Nudge,
    Perform,
    Request,
    Schedule,
    TakeOver,
    TimerFired,
    TurnRaised,
    Want,
    is_due,
)
from actors.tool_approval import (
    EXPIRY,
    OUTCOME_EXPIRY,
    Decide,
    approval_id,
    ask,
    call_id,
    decided,
    ended_by_decision,
    expired,
    needs_human,
)
from actors.tool_child import child_done, waits
from actors.tool_outcome import RETRY, ToolRaised, ToolReturned, retried, settle
from actors.tool_state import ToolState, evolve
from actors.tool_unknown import ask_human, canceled, cut_off, told
from events.fact import Fact
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolReissued,
    ToolRequested,
    ToolStarted,
    ToolTurnFailed,
)


def initial(address: Address) -> ToolState:
    return ToolState(address=address)


def decide(state: ToolState, command: Command) -> list[Fact]:
    """Answer a command; raises Refused where a person must be told no."""
    match command:
        case Decide():
            return decided(state, command)
        case ToolReturned(child=str(child)) if child:
            return waits(state, command)
        case ToolReturned() | ToolRaised():
            return settle(state, command)
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel():
            return _cancel(state, command)
        case ChildDone():
            return child_done(state, command)
        case TimerFired():
            return _timer_fired(state, command)
        case TakeOver():
            return _take_over(state, command)
        case Nudge():
            return _advance(state, command) or _reissue(state, command)
        case TurnRaised():
            return [ToolTurnFailed(message=command.message, error=command.error)]
        case _:
            return _advance(state, command)


def _advance(state: ToolState, command: Command) -> list[Fact]:
    request = state.request
    if request is None or state.end is not None:
        return []
    if max(state.seen.turns_failed.values(), default=0) >= TURNS_FAILED_MAX:
        return [ToolFailed(epoch=state.epoch, code="dead_letter", reason="its turns kept failing inside the engine")]
    if request.denied:
        return [ToolFailed(epoch=0, code="not_allowed", reason=request.denied)]
    if state.cut_off:
        return told(state, command.now_ms)
    approval = state.approval
    if approval is None and needs_human(request):
        return [ask(state, request, command.now_ms)]
    if approval is not None and approval.expired:
        return [ToolFailed(epoch=0, code="expired", reason="nobody approved it in time")]
    if approval is not None and approval.decision is not None:
        ended = ended_by_decision(request, approval.decision)
        if ended is not None:
            return [ended]
    if state.fenced and not state.begun and _ready(state) and command.ticket and command.ticket == state.ticket:
        return [ToolStarted(epoch=state.epoch)]
    return []


def _ready(state: ToolState) -> bool:
    """Tell whether the effect is to be performed by who holds the ticket."""
    request = state.request
    if request is None or state.end is not None or state.cut_off or state.retry_at or state.child or request.denied:
        return False
    if not needs_human(request):
        return True
    decision = state.approval.decision if state.approval else None
    return decision is not None and ended_by_decision(request, decision) is None


def _timer_fired(state: ToolState, command: TimerFired) -> list[Fact]:
    match command.timer:
        case "expiry":
            return expired(state.approval, command)
        case "outcome-expiry":
            return expired(state.outcome, command)
        case "retry" if is_due(command, asked=state.retry_seq, at_ms=state.retry_at):
            return retried(state)
        case _:
            return []


def _cancel(state: ToolState, command: Cancel) -> list[Fact]:
    request = state.request
    if state.cut_off:
        return canceled(state, command)
    if request is not None and request.effect == "unsafe" and state.begun:
        return [ToolOutcomeUnknown(epoch=state.epoch, reason=f"canceled by {command.by}")]
    return [ToolCanceled(by=command.by, reason=command.reason)]


def _take_over(state: ToolState, command: TakeOver) -> list[Fact]:
    request = state.request
    performs = state.probing and not state.retry_at
    if request is None or command.ticket != state.ticket or not (performs or _ready(state)):
        return _advance(state, command)
    if request.effect == "unsafe" and state.begun and not performs:
        return cut_off(state, "its worker was lost in the middle")
    if state.takeovers >= request.takeovers_max:
        reason = f"its worker was lost {state.takeovers + 1} times in the middle"
        return ask_human(state, command.now_ms) if performs else [_lost(state, reason)]
    return [ToolStarted(epoch=state.epoch + (performs or state.begun or not state.fenced))]


def _lost(state: ToolState, reason: str) -> ToolFailed:
    return ToolFailed(epoch=state.epoch, code="attempts", reason=reason)


def _reissue(state: ToolState, command: Nudge) -> list[Fact]:
    if state.retry_at and command.now_ms >= state.retry_at:
        return retried(state)
    if state.ticket > command.floors.get(state.queue, 0) or state.retry_at:
        return []
    if _ready(state) and state.request is not None and state.request.effect == "unsafe" and state.begun:
        return cut_off(state, "its ticket was lost in the middle")
    return [ToolReissued(epoch=state.epoch + 1)] if _ready(state) or state.probing else []


def pending(state: ToolState) -> list[Request]:
    """Return what is asked and not answered: the effect or its probe, the next attempt, the expiry of an approval."""
    if state.request is None or state.end is not None:
        return []
    found: list[Request] = [
        Schedule(asked=asked.seq, timer=timer, at_ms=asked.request.expires_at)
        for asked, timer in ((state.approval, EXPIRY), (state.outcome, OUTCOME_EXPIRY))
        if asked is not None and asked.open and asked.request.expires_at
    ]
    if state.retry_at:
        found.append(Schedule(asked=state.retry_seq, timer=RETRY, at_ms=state.retry_at))
    elif state.probing or (_ready(state) and (state.begun or not state.fenced)):
        found.append(Perform(ticket=state.ticket, epoch=state.epoch, probe=state.probing, begun=state.begun))
    return found


def create(state: ToolState, want: Want) -> Create:
    raise ValueError(f"a call creates no actor: {state.address} does not want {want.address}")


def route(state: ToolState, fact: Fact) -> str:
    """Return who must act on `fact`."""
    request = fact if isinstance(fact, ToolRequested) else state.request
    if request is None:
        return "-"
    match fact:
        case ToolRequested() | ApprovalDecided() | ToolReissued() | ToolOutcomeUnknown(asks="probe"):
            return f"tool-{request.pool}"
        case ToolOutcomeUnknown(asks="human"):
            return "-"
        case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown():
            return "run" if request.owner == "run" else f"agent-{request.role}"
        case _:
            return "-"


def open_actors(state: ToolState) -> list[Address]:
    del state
    return []


TOOL: Final = Decider(
    initial=initial, decide=decide, evolve=evolve, pending=pending, create=create, route=route, open_actors=open_actors
)

__all__ = ["TOOL", "Decide", "ToolRaised", "ToolReturned", "ToolState", "approval_id", "call_id"]
