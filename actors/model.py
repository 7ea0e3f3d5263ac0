"""The one protocol of model providers: a request in, deltas and one complete answer out. A provider is one file beside this.

ModelError
├─ kind "retry_after"   the provider named the wait: `retry_after_seconds`
├─ kind "back_off"      overloaded, cut off, silent: try again later
└─ kind "never"         a retry cannot help: bad request, no key, no money, refused
"""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal, Protocol

import msgspec

from events.agent import Block, Text, Thinking, ToolResult, ToolUse
from events.fact import Usage

__all__ = [
    "Answer",
    "Block",
    "Delta",
    "Message",
    "Model",
    "ModelError",
    "ModelRequest",
    "Text",
    "Thinking",
    "ToolResult",
    "ToolSchema",
    "ToolUse",
    "Usage",
]

TOKENS_MAX: Final = 32_000
"""How long an answer may be, if nothing else says so."""

Stop = Literal["end_turn", "tool_use", "max_tokens", "refusal"]


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation, blocks in order."""

    role: Literal["user", "assistant"]
    blocks: tuple[Text | Thinking | ToolUse | ToolResult, ...]


class ToolSchema(msgspec.Struct, frozen=True):
    """A tool as the model sees it; `schema` is a JSON schema with `type: object` on top."""

    name: str
    description: str
    schema: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One model call: the prompt, and who asks (the scripted model answers by it)."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    tokens_max: int = TOKENS_MAX
    run: str = ""
    step: str = ""
    """The step's key in its plan."""
    role: str = ""
    attempt: int = 1
    """Which attempt at the step: 1, 2, ..."""
    turn: int = 1
    """Which model call of the agent: 1, 2, ..."""
    attempt_at_turn: int = 1
    """Which try at this model call: 1, 2, ..."""
    seconds_max: float = 600
    """How long the whole answer may take."""
    idle_seconds: float = 120
    """How long the model may show no sign of life."""


class Delta(msgspec.Struct, frozen=True):
    """Some more words, for people who watch; never stored. Without words it is a sign of life, as of a model that thinks."""

    text: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The complete answer."""

    blocks: tuple[Block, ...]
    stop: Stop
    usage: Usage
    """Tokens, and the cost in `cost_micros`."""
    model: str


Kind = Literal["retry_after", "back_off", "never"]


class ModelError(Exception):
    """The call gave no answer."""

    def __init__(
        self,
        message: str,
        *,
        kind: Kind,
        code: str,
        retry_after_seconds: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.usage = usage or Usage()
        self.kind: Kind = kind
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Model(Protocol):
    """A provider."""

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        """Yield deltas, then the Answer as the last item; raises ModelError, and never yields a part of an answer as one."""
        ...
