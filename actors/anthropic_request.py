"""A model request as the Messages API wants it; pure.

The prefix that stays the same from turn to turn is marked for the prompt cache at four places, the most the API takes:
after the tools, after the system prompt, and at the ends of the last two user messages. The second to last is where the
turn before wrote, and finds its entry again also when the new message has more blocks than the API looks back over.
Nothing but the marks moves: models that bind their thinking to what stood before it refuse an edited history.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import msgspec

from actors.model import Block, Message, ModelRequest, Text, Thinking, ToolResult, ToolSchema, ToolUse
from actors.prices import resolve_model

REDACTED = "redacted:"
"""How a signature begins that stands for a block of thinking which only the provider can read."""

CACHED_USER_MESSAGES = 2

_CACHE = {"cache_control": {"type": "ephemeral"}}

Json = dict[str, Any]


def request_body(request: ModelRequest) -> Json:
    """Return the body of the call; `msgspec.DecodeError` says that stored tool arguments are no JSON."""
    body: Json = {
        "model": resolve_model(request.model),
        "max_tokens": request.tokens_max,
        "messages": _messages(request.messages),
        "stream": True,
    }
    if request.system.strip():
        body["system"] = [{"type": "text", "text": request.system, **_CACHE}]
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tools"][-1] |= _CACHE
    return body


def _tool(tool: ToolSchema) -> Json:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}


def _messages(messages: Iterable[Message]) -> list[Json]:
    turns = [_turn(role, [b for m in group for b in m.blocks]) for role, group in groupby(messages, lambda m: m.role)]
    sent = [turn for turn in turns if turn["content"]]
    for turn in [turn for turn in sent if turn["role"] == "user"][-CACHED_USER_MESSAGES:]:
        turn["content"][-1] |= _CACHE
    return sent


def _turn(role: str, blocks: Iterable[Block | ToolResult]) -> Json:
    # Results stand first: the API takes words after them, and refuses a use whose result comes later.
    ordered = sorted(blocks, key=lambda block: not isinstance(block, ToolResult))
    return {"role": role, "content": [sent for block in ordered if (sent := _block(block))]}


def _block(block: Block | ToolResult) -> Json | None:
    match block:
        case Text(text=text):
            # The API refuses blank text, although models now and then answer with it.
            return {"type": "text", "text": text} if text.strip() else None
        case Thinking(text=text, signature=signature):
            return _thinking(text, signature)
        case ToolUse(id=use, name=name, arguments=arguments):
            return {"type": "tool_use", "id": use, "name": name, "input": msgspec.json.decode(arguments)}
        case ToolResult(use=use, text=text, failed=failed):
            result: Json = {"type": "tool_result", "tool_use_id": use}
            return result | ({"content": text} if text else {}) | ({"is_error": True} if failed else {})


def _thinking(text: str, signature: str) -> Json | None:
    """Thinking goes back as it came, also when its text is empty; without a signature it is another provider's."""
    if signature.startswith(REDACTED):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
    return {"type": "thinking", "thinking": text, "signature": signature} if signature else None
