from typing import Any

import msgspec

from actors.anthropic_request import REDACTED, request_body
from actors.model import Block, Message, ModelRequest, Text, Thinking, ToolResult, ToolSchema, ToolUse

MARK = {"type": "ephemeral"}


def user(*blocks: Text | ToolResult) -> Message:
    return Message(role="user", blocks=blocks)


def assistant(*blocks: Block) -> Message:
    return Message(role="assistant", blocks=blocks)


def body(*messages: Message, system: str = "", tools: tuple[ToolSchema, ...] = ()) -> dict[str, Any]:
    return request_body(ModelRequest(model="sonnet", system=system, messages=messages, tools=tools))


def tool_use(use: str, arguments: bytes = b"{}") -> ToolUse:
    return ToolUse(id=use, name="read", arguments=msgspec.Raw(arguments))


def test_the_end_of_tools_system_and_the_last_two_user_messages_are_marked() -> None:
    tools = (
        ToolSchema(name="read", description="r", schema={"type": "object"}),
        ToolSchema(name="list", description="l", schema={"type": "object"}),
    )
    conversation = [
        user(Text("a")),
        assistant(tool_use("t1")),
        user(ToolResult("t1", "one")),
        assistant(tool_use("t2"), tool_use("t3")),
        user(ToolResult("t2", "two"), ToolResult("t3", "three")),
    ]
    sent = body(*conversation, system="be kind", tools=tools)
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, MARK]
    assert sent["system"] == [{"type": "text", "text": "be kind", "cache_control": MARK}]
    marks = [[block.get("cache_control") for block in message["content"]] for message in sent["messages"]]
    assert marks == [[None], [None], [MARK], [None, None], [None, MARK]]


def test_without_system_and_tools_there_is_neither() -> None:
    assert set(body(user(Text("a")), system="  ")) == {"model", "max_tokens", "messages", "stream"}


def test_results_stand_before_words_and_messages_of_one_side_are_one() -> None:
    sent = body(
        user(Text("go")),
        assistant(tool_use("t1"), tool_use("t2")),
        user(Text("hurry"), ToolResult("t1", "one")),
        user(ToolResult("t2", "", failed=True)),
    )
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert sent["messages"][2]["content"][1] == {"type": "tool_result", "tool_use_id": "t2", "is_error": True}


def test_blank_words_are_left_out() -> None:
    sent = body(user(Text("go"), Text(" \n")), assistant(Text("")), user(Text("on")))
    assert [block["text"] for message in sent["messages"] for block in message["content"]] == ["go", "on"]


def test_thinking_goes_back_as_it_came_also_without_text() -> None:
    sent = body(user(Text("go")), assistant(Thinking("hm", "sig1"), Thinking("", "sig2"), Text("so")), user(Text("on")))
    assert sent["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig1"},
        {"type": "thinking", "thinking": "", "signature": "sig2"},
    ]


def test_redacted_thinking_goes_back_as_such() -> None:
    sent = body(user(Text("go")), assistant(Thinking("", REDACTED + "abc=")), user(Text("on")))
    assert sent["messages"][1]["content"] == [{"type": "redacted_thinking", "data": "abc="}]


def test_thinking_without_a_signature_is_another_providers_and_left_out() -> None:
    sent = body(user(Text("go")), assistant(Thinking("hm"), Text("so")), user(Text("on")))
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "so"}]


def test_arguments_go_back_as_json() -> None:
    sent = body(
        user(Text("go")), assistant(tool_use("t1", b'{"b": [1, 2.0], "a": "\xc3\xbc"}')), user(ToolResult("t1", "x"))
    )
    arguments = sent["messages"][1]["content"][0]["input"]
    assert arguments == {"b": [1, 2.0], "a": "ü"}
    assert list(arguments) == ["b", "a"]
