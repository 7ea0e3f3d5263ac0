"""Facts of a tool call: asked for, perhaps approved, performed, ended."""

from typing import Any, Literal

import msgspec

from events.fact import Artifact, Changes, Fact

Decision = Literal["approve", "edit", "respond", "reject"]


class ToolRequested(Fact, frozen=True, kw_only=True, tag="tool.requested.v1"):
    """A tool call is wanted by an agent (or by the run itself, whose calls have no step).

    `owner` is who gets the notice of its end. `denied` says why the role may not have it: then it fails unperformed.
    """

    tool: str
    arguments: msgspec.Raw
    effect: str
    owner: str
    pool: str = "local"
    key: str = ""
    role: str = ""
    use: str = ""
    kind: Literal["tool_call", "question", "gate", "check"] = "tool_call"
    approval: bool = False
    risk: str = ""
    expires_seconds: int = 0
    denied: str = ""
    deliveries_max: int = 5


class ApprovalRequested(Fact, frozen=True, kw_only=True, tag="approval.requested.v1"):
    """A human must decide: `digest` binds the decision to exactly this call."""

    approval: str
    kind: Literal["tool_call", "question", "gate"]
    tool: str
    arguments: msgspec.Raw
    digest: str
    allowed: tuple[Decision, ...]
    risk: str = ""
    key: str = ""
    role: str = ""
    expires_at: int = 0


class ApprovalDecided(Fact, frozen=True, kw_only=True, tag="approval.decided.v1"):
    """A human decided; the first decision is the decision. `arguments` are the edited ones, if edited."""

    approval: str
    decision: Decision
    by: str
    comment: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class ApprovalExpired(Fact, frozen=True, kw_only=True, tag="approval.expired.v1"):
    """Nobody decided in time."""

    approval: str


class ToolStarted(Fact, frozen=True, kw_only=True, tag="tool.started.v1"):
    """The effect is about to be performed in this epoch."""

    epoch: int


class ToolReissued(Fact, frozen=True, kw_only=True, tag="tool.reissued.v1"):
    """The call's ticket was lost; this fact is its new one."""

    epoch: int


class ToolCompleted(Fact, frozen=True, kw_only=True, tag="tool.completed.v1"):
    """The tool answered."""

    epoch: int
    text: str
    data: Any = None
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    duration_ms: int = 0


class ToolFailed(Fact, frozen=True, kw_only=True, tag="tool.failed.v1"):
    """The call ended without a result; the model reads `reason`."""

    epoch: int
    code: str
    reason: str
    duration_ms: int = 0


class ToolCanceled(Fact, frozen=True, kw_only=True, tag="tool.canceled.v1"):
    """The call ended by a cancel."""

    by: str
    reason: str = ""


class ToolOutcomeUnknown(Fact, frozen=True, kw_only=True, tag="tool.outcome_unknown.v1"):
    """An unsafe call was cut off in the middle: nobody knows whether its effect happened."""

    epoch: int


class ToolRefused(Fact, frozen=True, kw_only=True, tag="tool.refused.v1"):
    """A late outcome of an old epoch, or after the end: recorded, and nothing changes."""

    epoch: int
    reason: str


class ToolTurnFailed(Fact, frozen=True, kw_only=True, tag="tool.turn_failed.v1"):
    """A turn of this actor raised; `message` is what it was working on."""

    message: str
    error: str


ToolFact = (
    ToolRequested
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalExpired
    | ToolStarted
    | ToolReissued
    | ToolCompleted
    | ToolFailed
    | ToolCanceled
    | ToolOutcomeUnknown
    | ToolRefused
    | ToolTurnFailed
)
