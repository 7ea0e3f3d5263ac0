"""Facts of an agent: one attempt at a step, from its request over model calls to its end."""

from typing import Final, Literal

import msgspec

from events.budget import Amount, Grant, Rate
from events.fact import Artifact, Changes, Fact, File, Usage, Verdict
from events.plan import Plan
from events.run import Limits, ToolSpec


class Text(msgspec.Struct, frozen=True, tag_field="kind", tag="text"):
    """Words."""

    text: str


class Thinking(msgspec.Struct, frozen=True, tag_field="kind", tag="thinking"):
    """A model's reasoning, kept with the provider's signature so that it can be sent back."""

    text: str
    signature: str = ""


class ToolUse(msgspec.Struct, frozen=True, tag_field="kind", tag="tool_use", omit_defaults=True):
    """A model asks for a tool: the provider's id, the tool's name, its arguments as JSON, and our call id."""

    id: str
    name: str
    arguments: msgspec.Raw
    call: str = ""


class ToolResult(msgspec.Struct, frozen=True, tag_field="kind", tag="tool_result", omit_defaults=True):
    """What a tool answered to the use of that id."""

    use: str
    text: str
    failed: bool = False


Block = Text | Thinking | ToolUse


class FromCall(msgspec.Struct, frozen=True, tag_field="kind", tag="call"):
    """A model call takes in the result of a call; the result itself stands at the call."""

    call: str


class FromEngine(msgspec.Struct, frozen=True, tag_field="kind", tag="engine"):
    """A model call takes in words of the engine: validation results, a nudge to use the tools."""

    text: str


class FromBrief(msgspec.Struct, frozen=True, tag_field="kind", tag="brief"):
    """A model call takes in the agent's brief, which stands in `agent.requested`."""


class FromChild(msgspec.Struct, frozen=True, tag_field="kind", tag="child"):
    """A model call takes in how a run ended that the agent had begun without waiting; `agent.child_ended` tells it."""

    child: str


Item = FromBrief | FromCall | FromEngine | FromChild


class Check(msgspec.Struct, frozen=True):
    """A validation command that the engine runs: the call it runs as, and its argv."""

    call: str
    argv: tuple[str, ...]


CHECK: Final = ToolSpec(effect="read", timeout_seconds=660.0, attempts_max=1)


class AgentRequested(Fact, frozen=True, kw_only=True, tag="agent.requested.v1"):
    """An attempt at a step is wanted: all that the agent starts from. `check` is what its validation commands run as."""

    step: str
    key: str
    role: str
    attempt: int
    brief: str
    definition: str
    model: str
    tools: dict[str, ToolSpec]
    files: dict[str, File] = {}
    writes: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    validate: tuple[tuple[str, ...], ...] = ()
    gate: bool = False
    planner: bool = False
    plan_roles: tuple[str, ...] = ()
    approve: str = "risky"
    limits: Limits = Limits()
    check: ToolSpec = CHECK
    grant: Grant | None = None
    rate: Rate = Rate()


class ModelRequested(Fact, frozen=True, kw_only=True, tag="model.requested.v1"):
    """A model call is wanted. It takes in only what is new, in prompt order; `attempt` counts tries at this turn.

    Under a budget `reserve` is what the call takes at worst, and `tokens_max` how long its answer may be.
    """

    turn: int
    takes: tuple[Item, ...] = ()
    attempt: int = 1
    reserve: Amount | None = None
    tokens_max: int = 0


class ModelTakenOver(Fact, frozen=True, kw_only=True, tag="model.taken_over.v1"):
    """The call's ticket was delivered again: a new epoch performs it, the old one is fenced off.

    Under a budget the lost call is charged as its reservation: an estimate, for nobody knows what it used.
    """

    turn: int
    epoch: int
    usage: Usage = Usage()


class ModelReissued(Fact, frozen=True, kw_only=True, tag="model.reissued.v1"):
    """The call's ticket was lost; this fact is its new one."""

    turn: int
    epoch: int
    usage: Usage = Usage()


class ModelResponded(Fact, frozen=True, kw_only=True, tag="model.responded.v1"):
    """The model answered in full."""

    turn: int
    epoch: int
    content: tuple[Block, ...]
    stop: Literal["end_turn", "tool_use", "max_tokens", "refusal"]
    model: str
    usage: Usage = Usage()


class ModelFailed(Fact, frozen=True, kw_only=True, tag="model.failed.v1"):
    """The call gave no answer; with `retry_at` (ms since the epoch) it is tried again then, else the agent fails."""

    turn: int
    epoch: int
    code: str
    reason: str
    retry_at: int = 0
    usage: Usage = Usage()


class ModelRefused(Fact, frozen=True, kw_only=True, tag="model.refused.v1"):
    """A late outcome of an old epoch, or after the end: recorded, and nothing changes."""

    turn: int
    epoch: int
    reason: str


class AgentChecking(Fact, frozen=True, kw_only=True, tag="agent.checking.v1"):
    """The engine runs the step's validation commands."""

    round: int
    checks: tuple[Check, ...]


class AgentReissued(Fact, frozen=True, kw_only=True, tag="agent.reissued.v1"):
    """The agent's start ticket was lost; this fact is its new one."""


class AgentCancelRequested(Fact, frozen=True, kw_only=True, tag="agent.cancel_requested.v1"):
    """Nothing new is asked; open calls are told to stop."""

    by: str
    reason: str = ""


class AgentPaused(Fact, frozen=True, kw_only=True, tag="agent.paused.v1"):
    """Nothing new is asked; what is in flight ends and is stored. `at` is the run's fact that said so."""

    by: str
    reason: str = ""
    at: int = 0


class AgentResumed(Fact, frozen=True, kw_only=True, tag="agent.resumed.v1"):
    """The agent goes on where it was; before its first model call this fact is its new ticket. `at` as in `agent.paused`."""

    by: str
    reason: str = ""
    at: int = 0


class AgentChildEnded(Fact, frozen=True, kw_only=True, tag="agent.child_ended.v1"):
    """A run that the agent began without waiting for it ended; its next model call takes `text` in."""

    child: str
    status: str
    text: str


class AgentSucceeded(Fact, frozen=True, kw_only=True, tag="agent.succeeded.v1"):
    """The attempt has its result; `changes` are against the files it started from."""

    summary: str
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    verdict: Verdict | None = None
    plan: Plan | None = None
    turns: int = 0
    usage: Usage = Usage()


class AgentFailed(Fact, frozen=True, kw_only=True, tag="agent.failed.v1"):
    """The attempt ended without a result; `code` says of which kind the cause is, `final` that another attempt cannot help."""

    code: str
    reason: str
    final: bool = False
    usage: Usage = Usage()


class AgentCanceled(Fact, frozen=True, kw_only=True, tag="agent.canceled.v1"):
    """The attempt ended by a cancel."""

    by: str
    reason: str = ""
    usage: Usage = Usage()


class AgentTurnFailed(Fact, frozen=True, kw_only=True, tag="agent.turn_failed.v1"):
    """A turn of this actor raised; `message` is what it was working on."""

    message: str
    error: str


AgentFact = (
    AgentRequested
    | ModelRequested
    | ModelTakenOver
    | ModelReissued
    | ModelResponded
    | ModelFailed
    | ModelRefused
    | AgentChecking
    | AgentReissued
    | AgentCancelRequested
    | AgentPaused
    | AgentResumed
    | AgentChildEnded
    | AgentSucceeded
    | AgentFailed
    | AgentCanceled
    | AgentTurnFailed
)
