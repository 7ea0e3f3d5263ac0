"""What the real Messages API refuses, as far as our requests could run into it."""

import re
from typing import Any, cast

import msgspec

Json = dict[str, Any]

_FIELDS = {"model", "max_tokens", "messages", "stream", "system", "tools"}
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")


def fault_in(body: Json, bound: dict[str, set[str]]) -> str | None:
    """Why the API refuses this body, or None; `bound` tells which prefixes a signature was given for."""
    try:
        _check(body, bound)
    except AssertionError as fault:
        return str(fault)
    return None


def _check(body: Json, bound: dict[str, set[str]]) -> None:
    extra = set(body) - _FIELDS
    assert not extra, f"{extra}: Extra inputs are not permitted"
    assert body["max_tokens"] >= 1, "max_tokens: must be greater than 0"
    marks = msgspec.json.encode(body).count(b'"cache_control":')
    assert marks <= 4, f"A maximum of 4 blocks with cache_control may be provided. Found {marks}."
    for tool in body.get("tools", []):
        assert _NAME.match(tool["name"]), f"tools: name {tool['name']!r} must match {_NAME.pattern}"
        assert tool["input_schema"].get("type") == "object", "tools: input_schema.type: Field required"
    for block in body.get("system", []):
        assert block["text"].strip(), "system: text content blocks must contain non-whitespace text"
    messages = body["messages"]
    assert messages, "messages: at least one message is required"
    assert messages[0]["role"] == "user", "messages: first message must use the user role"
    assert messages[-1]["role"] == "user", "This model does not support assistant message prefill"
    for at, message in enumerate(messages):
        _check_message(f"messages.{at}", message)
        _check_pairs(f"messages.{at}", message, messages[at - 1] if at else {"role": "user", "content": []})
        _check_thinking(f"messages.{at}", message, prefix=digest(body, at), bound=bound)


def _check_message(path: str, message: Json) -> None:
    assert message["content"], f"{path}: content must not be empty"
    for block in message["content"]:
        blank = block["type"] == "text" and not block["text"].strip()
        assert not blank, f"{path}: text content blocks must contain non-whitespace text"
        assert "cache_control" not in block or "thinking" not in block["type"], f"{path}: cannot set cache_control"


def _check_pairs(path: str, message: Json, before: Json) -> None:
    uses = [block["id"] for block in before["content"] if block["type"] == "tool_use"]
    results = [block.get("tool_use_id") for block in message["content"] if block["type"] == "tool_result"]
    assert sorted(results) == sorted(uses), (
        f"{path}: each `tool_use` block must have one `tool_result` block right after"
    )
    first = [block["type"] for block in message["content"][: len(results)]]
    assert first == ["tool_result"] * len(results), f"{path}: `tool_result` blocks must come first"
    assert message["role"] != before["role"] or path == "messages.0", f"{path}: roles must alternate"


def _check_thinking(path: str, message: Json, *, prefix: str, bound: dict[str, set[str]]) -> None:
    for block in message["content"]:
        if block["type"] == "thinking":
            known = prefix in bound.get(block["signature"], {prefix})
            assert known, (
                f"{path}: Invalid `signature` in `thinking` block. The block is bound to a different conversation."
            )


def digest(body: Json, messages: int) -> str:
    """The prefix that thinking is bound to: system, tools and the first so many messages, without the marks."""
    prefix = [body.get("system"), body.get("tools"), body["messages"][:messages]]
    return msgspec.json.encode(without_marks(prefix)).decode()


def without_marks(value: Any) -> Any:
    match value:
        case dict():
            fields = cast("dict[str, Any]", value)
            return {key: without_marks(item) for key, item in fields.items() if key != "cache_control"}
        case list():
            return [without_marks(item) for item in cast("list[Any]", value)]
        case _:
            return value
