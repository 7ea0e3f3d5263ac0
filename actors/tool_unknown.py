"""An unsafe call that was cut off in the middle: it is never run again by itself, and somebody is asked what became of it. Pure.

By the tool's policy the model reads that nobody knows, or a human says it, or the tool's probe finds it out.
"""

from typing import Final

from actors.decider import Cancel
from actors.tool_approval import ask
from actors.tool_state import ToolState
from events.fact import Fact
from events.tool import ApprovalDecided, ToolCompleted, ToolFailed, ToolOutcomeUnknown

UNKNOWN: Final = "outcome_unknown"
NOT_DONE: Final = "not_done"


def cut_off(state: ToolState, reason: str) -> list[Fact]:
    """Say that nobody knows the outcome, and by the call's policy who is to tell it."""
    policy = state.request.unknown if state.request else "model"
    if policy == "model":
        why = f"{reason}; it may or may not have happened"
        return [ToolFailed(epoch=state.epoch, code=UNKNOWN, reason=why)]
    return [ToolOutcomeUnknown(epoch=state.epoch, reason=reason, asks=policy)]


def canceled(state: ToolState, command: Cancel) -> list[Fact]:
    """End what is asked about the outcome; where nobody is asked the call stays open for a late outcome."""
    if not state.asks:
        return []
    reason = f"canceled by {command.by} before anybody could tell whether it happened"
    return [ToolFailed(epoch=state.cut_off, code=UNKNOWN, reason=reason)]


def told(state: ToolState, now_ms: int) -> list[Fact]:
    """Go on with a call that was cut off: ask the human, or end it by the answer."""
    request, asked = state.request, state.outcome
    if request is None:
        return []
    if asked is None:
        return [ask(state, request, now_ms, kind="outcome")] if state.asks == "human" else []
    if asked.decision is not None:
        return [_ended(state, asked.decision)]
    if asked.expired:
        reason = "nobody told in time whether it happened; it may or may not have"
        return [ToolFailed(epoch=state.cut_off, code=UNKNOWN, reason=reason)]
    return []


def ask_human(state: ToolState, now_ms: int) -> list[Fact]:
    """Put the question to a human, where the probe could not answer it."""
    return [ask(state, state.request, now_ms, kind="outcome")] if state.request else []


def _ended(state: ToolState, decision: ApprovalDecided) -> Fact:
    if decision.decision == "reject":
        why = f": {decision.comment}" if decision.comment else ""
        return ToolFailed(epoch=state.cut_off, code=NOT_DONE, reason=f"{decision.by} says that it did not happen{why}")
    text = decision.comment or f"{decision.by} says that it happened"
    return ToolCompleted(epoch=state.cut_off, text=text, data={"by": decision.by})
