"""The tool actor: one tool call, from its request over a human's approval to its one outcome."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from actors.decider import (
    TURNS_FAILED_MAX,
    Cancel,
    Command,
    Create,
    Decider,
    Nudge,
    Perform,
    Refused,
    Request,
    Schedule,
    Seen,
    TakeOver,
    TimerFired,
    TurnRaised,
    Want,
)
from events.envelope import Record
from events.fact import Artifact, Changes, Fact
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    Decision,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
    ToolTurnFailed,
)

EXPIRY: Final = "expiry"
FENCED_EFFECTS: Final = frozenset({"keyed", "unsafe"})
Terminal = ToolCompleted | ToolFailed | ToolCanceled
ALLOWED: Final[Mapping[str, tuple[Decision, ...]]] = {
    "tool_call": ("approve", "edit", "reject"),
    "question": ("respond", "reject"),
    "gate": ("approve", "respond", "reject"),
}
TERMINAL: Final = (ToolCompleted, ToolFailed, ToolCanceled)


class Decide(Command, frozen=True, kw_only=True):
    """A human decides on the approval; `digest`, if given, must be of the call that was shown."""

    decision: Decision
    by: str
    comment: str = ""
    arguments: bytes = b""
    digest: str = ""


class ToolReturned(Command, frozen=True, kw_only=True):
    """The effect performed in `epoch` came back."""

    epoch: int
    text: str
    data: Any = None
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    duration_ms: int = 0


class ToolRaised(Command, frozen=True, kw_only=True):
    """The effect performed in `epoch` failed, for a reason that the model is to read."""

    epoch: int
    code: str
    reason: str
    duration_ms: int = 0


class ToolState(msgspec.Struct, frozen=True):
    """One call. `ticket` is the notice that entitles to perform it, `asked` the fact that asked for that."""

    address: Address
    seen: Seen = Seen()
    request: ToolRequested | None = None
    ticket: int = 0
    queue: str = ""
    epoch: int = 0
    approval: ApprovalRequested | None = None
    approval_seq: int = 0
    decision: ApprovalDecided | None = None
    expired: bool = False
    unknown: bool = False
    end: Terminal | None = None

    @property
    def arguments(self) -> bytes:
        """The arguments to perform with: a human's, if edited."""
        if self.decision is not None and self.decision.decision == "edit":
            return bytes(self.decision.arguments)
        return bytes(self.request.arguments) if self.request else b"{}"


def approval_id(call: str) -> str:
    """Return the approval's id of a call: the same digits under `apr_`."""
    return f"apr_{call.partition('_')[2]}"


def call_id(approval: str) -> str:
    """Return the call's id of an approval."""
    return f"call_{approval.partition('_')[2]}"


def digest(address: Address, tool: str, arguments: bytes) -> str:
    """Return what binds a decision to exactly one call: sha256 over workspace, run, step, call, tool and arguments."""
    parts = (address.workspace, address.run, address.step, address.call, tool)
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), arguments])).hexdigest()


def initial(address: Address) -> ToolState:
    return ToolState(address=address)


def decide(state: ToolState, command: Command) -> list[Fact]:
    """Answer a command; raises Refused where a person must be told no."""
    match command:
        case Decide():
            return _decide_approval(state, command)
        case ToolReturned():
            return _settle(state, command.epoch, _completed(command))
        case ToolRaised():
            return _settle(state, command.epoch, _failed(command))
        case _ if state.request is None or state.end is not None:
            return []
        case Cancel():
            return _cancel(state, command)
        case TimerFired(timer=timer) if timer == EXPIRY:
            return _expire(state, command.now_ms)
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
    if _needs_human(request) and state.approval is None:
        return [_ask(state, request, command.now_ms)]
    if state.expired:
        return [ToolFailed(epoch=0, code="expired", reason="nobody approved it in time")]
    if state.decision is not None and (ended := _ended_by_decision(request, state.decision)) is not None:
        return [ended]
    fenced = request.effect in FENCED_EFFECTS and state.epoch == 0
    if fenced and _ready(state) and command.ticket and command.ticket == state.ticket:
        return [ToolStarted(epoch=1)]
    return []


def _needs_human(request: ToolRequested) -> bool:
    return request.approval or request.kind in ("question", "gate")


def _ready(state: ToolState) -> bool:
    request = state.request
    if request is None or state.end is not None or state.unknown or request.denied:
        return False
    if not _needs_human(request):
        return True
    return state.decision is not None and _ended_by_decision(request, state.decision) is None


def _ask(state: ToolState, request: ToolRequested, now_ms: int) -> ApprovalRequested:
    kind = request.kind if request.kind in ("question", "gate") else "tool_call"
    return ApprovalRequested(
        approval=approval_id(state.address.call),
        kind=kind,
        tool=request.tool,
        arguments=request.arguments,
        digest=digest(state.address, request.tool, bytes(request.arguments)),
        allowed=ALLOWED[kind],
        risk=request.risk,
        key=request.key,
        role=request.role,
        expires_at=now_ms + request.expires_seconds * 1000 if request.expires_seconds else 0,
    )


def _ended_by_decision(request: ToolRequested, decision: ApprovalDecided) -> Fact | None:
    if request.kind == "gate":
        data = {"decision": decision.decision, "by": decision.by, "comment": decision.comment}
        return ToolCompleted(epoch=0, text=decision.comment, data=data)
    if decision.decision == "reject":
        why = f": {decision.comment}" if decision.comment else ""
        return ToolFailed(epoch=0, code="rejected", reason=f"{decision.by} rejected this call{why}")
    if request.kind == "question":
        return ToolCompleted(epoch=0, text=decision.comment, data={"by": decision.by})
    return None


def _decide_approval(state: ToolState, command: Decide) -> list[Fact]:
    approval, decided = state.approval, state.decision
    if approval is None:
        raise Refused("not_waiting", "this call does not wait for an approval")
    if decided is not None:
        if (decided.decision, decided.by, decided.comment) == (command.decision, command.by, command.comment):
            return []
        raise Refused("already_decided", f"{decided.by} already decided: {decided.decision}", recorded=decided)
    if state.expired:
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


def _expire(state: ToolState, now_ms: int) -> list[Fact]:
    approval = state.approval
    if approval is None or state.decision is not None or state.expired:
        return []
    return [ApprovalExpired(approval=approval.approval)] if now_ms >= approval.expires_at > 0 else []


def _cancel(state: ToolState, command: Cancel) -> list[Fact]:
    request = state.request
    if request is not None and request.effect == "unsafe" and state.epoch and not state.unknown:
        return [ToolOutcomeUnknown(epoch=state.epoch)]
    return [] if state.unknown else [ToolCanceled(by=command.by, reason=command.reason)]


def _take_over(state: ToolState, command: TakeOver) -> list[Fact]:
    request = state.request
    if request is None or not _ready(state) or command.ticket != state.ticket:
        return _advance(state, command)
    if request.effect == "unsafe" and state.epoch:
        reason = "outcome_unknown: it was cut off in the middle, and may or may not have happened"
        return [ToolFailed(epoch=state.epoch, code="outcome_unknown", reason=reason)]
    if command.delivered > request.deliveries_max:
        return [ToolFailed(epoch=state.epoch, code="attempts", reason=f"cut off {command.delivered - 1} times")]
    if request.effect in FENCED_EFFECTS:
        return [ToolStarted(epoch=state.epoch + 1)]
    return [ToolStarted(epoch=max(state.epoch, 1) + 1)]


def _reissue(state: ToolState, command: Nudge) -> list[Fact]:
    if _ready(state) and state.ticket <= command.floors.get(state.queue, 0):
        return [ToolReissued(epoch=max(state.epoch, 1) + 1)]
    return []


def _completed(command: ToolReturned) -> ToolCompleted:
    return ToolCompleted(
        epoch=command.epoch,
        text=command.text,
        data=command.data,
        changes=command.changes,
        artifacts=command.artifacts,
        duration_ms=command.duration_ms,
    )


def _failed(command: ToolRaised) -> ToolFailed:
    return ToolFailed(epoch=command.epoch, code=command.code, reason=command.reason, duration_ms=command.duration_ms)


def _settle(state: ToolState, epoch: int, outcome: Fact) -> list[Fact]:
    if isinstance(state.end, ToolCompleted | ToolFailed) and state.end.epoch == epoch:
        return []
    if state.end is not None:
        return [ToolRefused(epoch=epoch, reason="the call had ended")]
    if epoch != max(state.epoch, 1):
        return [ToolRefused(epoch=epoch, reason=f"stale_epoch: epoch {max(state.epoch, 1)} performs it now")]
    return [outcome]


def evolve(state: ToolState, record: Record) -> ToolState:
    """Take a stored fact in."""
    state = replace(state, seen=state.seen.take(record))
    match record.fact:
        case ToolRequested() as fact:
            return replace(state, request=fact, ticket=record.ticket, queue=record.to)
        case ApprovalRequested() as fact:
            return replace(state, approval=fact, approval_seq=record.seq)
        case ApprovalDecided() as fact:
            return replace(state, decision=fact, ticket=record.ticket, queue=record.to)
        case ApprovalExpired():
            return replace(state, expired=True)
        case ToolStarted(epoch=epoch):
            return replace(state, epoch=epoch)
        case ToolReissued(epoch=epoch):
            return replace(state, epoch=epoch, ticket=record.ticket, queue=record.to)
        case ToolOutcomeUnknown():
            return replace(state, unknown=True)
        case ToolCompleted() | ToolFailed() | ToolCanceled() as fact:
            return replace(state, end=fact)
        case ToolTurnFailed(message=message):
            return replace(state, seen=state.seen.failed(message))
        case _:
            return state


def pending(state: ToolState) -> list[Request]:
    """Return what is asked and not answered: the effect, the expiry of an approval."""
    found: list[Request] = []
    approval = state.approval
    if approval is not None and approval.expires_at and state.decision is None and not state.expired and not state.end:
        found.append(Schedule(asked=state.approval_seq, timer=EXPIRY, at_ms=approval.expires_at))
    fenced = state.request is not None and state.request.effect in FENCED_EFFECTS
    if _ready(state) and (state.epoch or not fenced):
        found.append(Perform(ticket=state.ticket, epoch=max(state.epoch, 1)))
    return found


def create(state: ToolState, want: Want) -> Create:
    raise ValueError(f"a call creates no actor: {state.address} does not want {want.address}")


def route(state: ToolState, fact: Fact) -> str:
    """Return who must act on `fact`."""
    request = fact if isinstance(fact, ToolRequested) else state.request
    if request is None:
        return "-"
    match fact:
        case ToolRequested() | ApprovalDecided() | ToolReissued():
            return f"tool-{request.pool}"
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

__all__ = ["TERMINAL", "TOOL", "Decide", "ToolRaised", "ToolReturned", "ToolState", "approval_id", "call_id"]
