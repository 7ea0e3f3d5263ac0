"""What a tool call knows of itself: its request, its ticket and epoch, who was asked about it, its one end. A pure fold."""

from typing import Final

import msgspec
from msgspec.structs import replace

from actors.decider import Seen
from events.envelope import Record
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolReissued,
    ToolRequested,
    ToolStarted,
    ToolTurnFailed,
    ToolWaiting,
)

FENCED_EFFECTS: Final = frozenset({"keyed", "unsafe"})
Terminal = ToolCompleted | ToolFailed | ToolCanceled


class Asked(msgspec.Struct, frozen=True):
    """A question to a human about the call, and the answer."""

    request: ApprovalRequested
    seq: int
    decision: ApprovalDecided | None = None
    decided_seq: int = 0
    expired: bool = False

    @property
    def open(self) -> bool:
        return self.decision is None and not self.expired


class ToolState(msgspec.Struct, frozen=True):
    """One call. `ticket` is the notice that entitles to perform it, in `epoch`.

    `started` is the last epoch whose beginning stands in the log (fenced effects only), `cut_off` the epoch of an unsafe call that
    nobody knows the outcome of; `asks` then is who finds out, and `epoch` the probe's. `takeovers`, `attempts`: so many.
    `child` is the run that the call waits for.
    """

    address: Address
    seen: Seen = Seen()
    request: ToolRequested | None = None
    ticket: int = 0
    queue: str = ""
    epoch: int = 1
    started: int = 0
    takeovers: int = 0
    attempts: int = 0
    retry_at: int = 0
    retry_seq: int = 0
    approval: Asked | None = None
    cut_off: int = 0
    asks: str = ""
    outcome: Asked | None = None
    child: str = ""
    end: Terminal | None = None

    @property
    def arguments(self) -> bytes:
        """The arguments to perform with: a human's, if edited."""
        decision = self.approval.decision if self.approval else None
        if decision is not None and decision.decision == "edit":
            return bytes(decision.arguments)
        return bytes(self.request.arguments) if self.request else b"{}"

    @property
    def fenced(self) -> bool:
        return self.request is not None and self.request.effect in FENCED_EFFECTS

    @property
    def begun(self) -> bool:
        """Whether the effect may be going on in this epoch: what is unsafe is cut off then, never done again."""
        return self.started == self.epoch

    @property
    def probing(self) -> bool:
        """Whether the tool's probe is to find out what became of the call."""
        return self.cut_off > 0 and self.asks == "probe" and self.outcome is None and self.end is None

    def may_settle(self, epoch: int) -> bool:
        """Tell whether whoever still performs that epoch may go on: a human is asked what became of it, who may take days.

        A probe is not to be raced: what it did not find must not happen after it looked.
        """
        return self.end is None and self.asks == "human" and epoch == self.cut_off

    def asked(self) -> list[Asked]:
        """The questions put to humans about this call, oldest first."""
        return [one for one in (self.approval, self.outcome) if one is not None]


def evolve(state: ToolState, record: Record) -> ToolState:
    """Take a stored fact in."""
    state = replace(state, seen=state.seen.take(record))
    match record.fact:
        case ToolRequested() as fact:
            return replace(state, request=fact, ticket=record.ticket, queue=record.to)
        case ToolStarted(epoch=epoch):
            return replace(state, epoch=epoch, started=epoch, takeovers=state.takeovers + (epoch > state.epoch))
        case ToolReissued(epoch=epoch):
            return replace(state, epoch=epoch, ticket=record.ticket, queue=record.to, retry_at=0)
        case ToolAttemptFailed(attempt=attempt, retry_at=retry_at):
            return replace(state, attempts=attempt, retry_at=retry_at, retry_seq=record.seq)
        case ToolWaiting(child=child):
            return replace(state, child=child)
        case ToolOutcomeUnknown() as fact:
            return _cut_off(state, fact, record)
        case ToolCompleted() | ToolFailed() | ToolCanceled() as fact:
            return replace(state, end=fact)
        case ToolTurnFailed(message=message):
            return replace(state, seen=state.seen.failed(message))
        case ApprovalRequested() | ApprovalDecided() | ApprovalExpired():
            return _take_approval(state, record)
        case _:
            return state


def _cut_off(state: ToolState, fact: ToolOutcomeUnknown, record: Record) -> ToolState:
    state = replace(state, cut_off=fact.epoch, asks=fact.asks, takeovers=0, attempts=0)
    if fact.asks != "probe":
        return state
    queue = state.queue if record.to == "-" else record.to
    return replace(state, epoch=fact.epoch + 1, ticket=record.ticket, queue=queue)


def _take_approval(state: ToolState, record: Record) -> ToolState:
    match record.fact:
        case ApprovalRequested(kind="outcome") as fact:
            return replace(state, outcome=Asked(fact, record.seq))
        case ApprovalRequested() as fact:
            return replace(state, approval=Asked(fact, record.seq))
        case ApprovalDecided(approval=id_) as fact:
            if state.outcome is not None and state.outcome.request.approval == id_:
                return replace(state, outcome=replace(state.outcome, decision=fact, decided_seq=record.seq))
            if state.approval is not None:
                asked = replace(state.approval, decision=fact, decided_seq=record.seq)
                return replace(state, approval=asked, ticket=record.ticket, queue=record.to)
        case ApprovalExpired(approval=id_):
            if state.outcome is not None and state.outcome.request.approval == id_:
                return replace(state, outcome=replace(state.outcome, expired=True))
            if state.approval is not None:
                return replace(state, approval=replace(state.approval, expired=True))
        case _:
            pass
    return state
