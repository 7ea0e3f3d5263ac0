"""Facts of a tool call: asked for, perhaps approved, performed, ended."""

from typing import Any, Final, Literal

import msgspec

from events.fact import Artifact, Changes, Fact

Decision = Literal["approve", "edit", "respond", "reject"]
Unknown = Literal["model", "human", "probe"]
Asked = Literal["tool_call", "question", "gate", "step", "outcome"]
OUTCOME_SUFFIX: Final = "-outcome"
"""Ends the id of an approval of kind `outcome`: the second that one call may have."""


class ToolRequested(Fact, frozen=True, kw_only=True, tag="tool.requested.v1"):
    """A tool call is wanted by an agent (or by the run itself, whose calls have no step).

    `owner` is who gets the notice of its end. `denied` says why the role may not have it: then it fails unperformed.
    `unknown` says who is asked when an unsafe call was cut off in the middle.
    """

    tool: str
    arguments: msgspec.Raw
    effect: str
    owner: str
    pool: str = "local"
    key: str = ""
    role: str = ""
    use: str = ""
    kind: Literal["tool_call", "question", "gate", "step", "check"] = "tool_call"
    approval: bool = False
    risk: str = ""
    expires_seconds: int = 0
    denied: str = ""
    takeovers_max: int = 5
    unknown: Unknown = "model"
    timeout_seconds: float = 60
    attempts_max: int = 3
    backoff_seconds: float = 0.5


class ApprovalRequested(Fact, frozen=True, kw_only=True, tag="approval.requested.v1"):
    """A human must decide: `digest` binds the decision to exactly this call.

    Kind `outcome` asks what became of an unsafe call that was cut off: `respond` says that it happened, `reject` that it did not.
    """

    approval: str
    kind: Asked
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
    """The call's ticket was lost, or its next attempt is due; this fact is its new ticket."""

    epoch: int


class ToolAttemptFailed(Fact, frozen=True, kw_only=True, tag="tool.attempt_failed.v1"):
    """The performance in `epoch` failed and is tried again at `retry_at` (ms since the epoch), as attempt + 1.

    `probe` tells that it was not the tool that failed, but the probe that asks what became of it.
    """

    epoch: int
    attempt: int
    code: str
    reason: str
    retry_at: int
    probe: bool = False


class ToolWaiting(Fact, frozen=True, kw_only=True, tag="tool.waiting.v1"):
    """The call began the run `child` and ends with it; until then it holds no message and no worker."""

    epoch: int
    child: str


class ToolCompleted(Fact, frozen=True, kw_only=True, tag="tool.completed.v1"):
    """The tool answered; `child` is the run whose result this is, if it is one's."""

    epoch: int
    text: str
    data: Any = None
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    duration_ms: int = 0
    child: str = ""


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
    """An unsafe call was cut off in the middle: nobody knows whether its effect happened.

    `asks` is who is to find out, a human or the tool's probe; empty: nobody, as after a cancel. A late outcome of `epoch` settles it.
    """

    epoch: int
    reason: str = ""
    asks: Literal["", "human", "probe"] = ""


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
    | ToolWaiting
    | ToolAttemptFailed
    | ToolCompleted
    | ToolFailed
    | ToolCanceled
    | ToolOutcomeUnknown
    | ToolRefused
    | ToolTurnFailed
)
