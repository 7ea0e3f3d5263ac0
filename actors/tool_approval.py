"""What a call asks of humans, and what comes of their answers: the first decision is the decision. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from actors.decider import Command, Refused, TimerFired, is_due
from actors.tool_state import Asked, ToolState
from events.fact import Fact
from events.subjects import Address
from events.tool import (
    OUTCOME_SUFFIX,
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    Decision,
    ToolCompleted,
    ToolFailed,
    ToolRequested,
)
from events.tool import Asked as Kind

EXPIRY: Final = "expiry"
OUTCOME_EXPIRY: Final = "outcome-expiry"
ALLOWED: Final[Mapping[Kind, tuple[Decision, ...]]] = {
    "tool_call": ("approve", "edit", "reject"),
    "question": ("respond", "reject"),
    "gate": ("approve", "respond", "reject"),
    "step": ("approve", "respond", "reject"),
    "outcome": ("respond", "reject"),
}


class Decide(Command, frozen=True, kw_only=True):
    """A human decides; `approval` names on what, `digest`, if given, must be of the call that was shown."""

    decision: Decision
    by: str
    comment: str = ""
    arguments: bytes = b""
    digest: str = ""
    approval: str = ""


def approval_id(call: str) -> str:
    """Return the approval's id of a call: the same digits under `apr_`."""
    return f"apr_{call.partition('_')[2]}"


def call_id(approval: str) -> str:
    """Return the call's id of an approval."""
    return f"call_{approval.partition('_')[2].removesuffix(OUTCOME_SUFFIX)}"


def digest(address: Address, tool: str, arguments: bytes, *, kind: Kind = "tool_call") -> str:
    """Return what binds a decision to exactly one question: sha256 over workspace, run, step, call, tool and arguments."""
    parts = [address.workspace, address.run, address.step, address.call, tool]
    if kind == "outcome":
        parts.append(kind)
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), arguments])).hexdigest()


def needs_human(request: ToolRequested) -> bool:
    """Tell whether the call may not go on without a human's word."""
    return request.approval or request.kind in ("question", "gate", "step")


def ask(state: ToolState, request: ToolRequested, now_ms: int, *, kind: Kind | None = None) -> ApprovalRequested:
    """Return the question to put to a human: about the call itself, or (kind `outcome`) what became of it."""
    what: Kind = kind or ("tool_call" if request.kind == "check" else request.kind)
    outcome = what == "outcome"
    arguments = msgspec.Raw(state.arguments)
    return ApprovalRequested(
        approval=approval_id(state.address.call) + (OUTCOME_SUFFIX if outcome else ""),
        kind=what,
        tool=request.tool,
        arguments=arguments,
        digest=digest(state.address, request.tool, bytes(arguments), kind=what),
        allowed=ALLOWED[what],
        risk="high" if outcome else request.risk,
        key=request.key,
        role=request.role,
        expires_at=now_ms + request.expires_seconds * 1000 if request.expires_seconds else 0,
    )


def ended_by_decision(request: ToolRequested, decision: ApprovalDecided) -> Fact | None:
    """Return the end that a decision on the call itself brings; None: it is to be performed."""
    if request.kind in ("gate", "step"):
        data = {"decision": decision.decision, "by": decision.by, "comment": decision.comment}
        return ToolCompleted(epoch=0, text=decision.comment, data=data)
    if decision.decision == "reject":
        why = f": {decision.comment}" if decision.comment else ""
        return ToolFailed(epoch=0, code="rejected", reason=f"{decision.by} rejected this call{why}")
    if request.kind == "question":
        return ToolCompleted(epoch=0, text=decision.comment, data={"by": decision.by})
    return None


def decided(state: ToolState, command: Decide) -> list[Fact]:
    """Take a human's decision; raises Refused with what stands instead."""
    asked = _meant(state, command)
    approval, decision = asked.request, asked.decision
    if decision is not None:
        if (decision.decision, decision.comment) == (command.decision, command.comment or decision.comment) and (
            command.decision != "edit" or command.arguments == bytes(decision.arguments)
        ):
            return []  # it is so already, whoever said it first, and nothing that is said now would be lost
        raise Refused("already_decided", f"{decision.by} already decided: {decision.decision}", recorded=decision)
    if asked.expired:
        raise Refused("expired", "the approval expired before this decision")
    if state.end is not None:
        raise Refused("already_ended", "the call has ended; nothing is left to decide")
    if command.decision not in approval.allowed:
        raise Refused("not_allowed", f"decision: {command.decision!r} is not one of {', '.join(approval.allowed)}")
    if command.digest and command.digest != approval.digest:
        raise Refused("digest_mismatch", "the decision was made on another call than the one that waits")
    if command.decision == "edit" and not command.arguments:
        raise Refused("arguments_missing", "arguments: an edit carries the new arguments")
    return [
        ApprovalDecided(
            approval=approval.approval,
            decision=command.decision,
            by=command.by,
            comment=command.comment,
            arguments=msgspec.Raw(command.arguments or b"{}"),
        )
    ]


def _meant(state: ToolState, command: Decide) -> Asked:
    """Return the question that a decision answers: a late word on the first must never count as one on the second."""
    found = state.asked()
    if command.approval:
        found = [one for one in found if one.request.approval == command.approval]
    elif len(found) > 1:
        found = [one for one in found if one.request.digest == command.digest]
        if not found:
            raise Refused(
                "approval_missing", "approval: two questions were asked about this call; name the one you mean"
            )
    if not found:
        raise Refused("not_waiting", "this call does not wait for an approval")
    return found[0]


def expired(asked: Asked | None, command: TimerFired) -> list[Fact]:
    """Close a question whose time is over."""
    if asked is None or not asked.open or not is_due(command, asked=asked.seq, at_ms=asked.request.expires_at):
        return []
    return [ApprovalExpired(approval=asked.request.approval)]
