"""What a test has the fake Messages API say, and the events by which the real one says it."""

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from actors.model import Block, Text, Thinking, ToolUse

Json = dict[str, Any]


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Usage as the provider counts it."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class Fault(msgspec.Struct, frozen=True):
    """Something breaks after so many events.

    cut: the body ends early, in good order; reset: the connection breaks; stall: silence; pings: nothing but pings;
    garbage: an event that is no JSON; bad_chunk: broken HTTP framing.
    """

    what: Literal["cut", "reset", "stall", "pings", "garbage", "bad_chunk"]
    after: int = 3


class ErrorEvent(msgspec.Struct, frozen=True):
    """An `error` event after so many others, in a response that began with status 200."""

    type: str = "overloaded_error"
    message: str = "Overloaded"
    after: int = 3


class Hold(msgspec.Struct, frozen=True):
    """The rest comes only once `until` is set."""

    until: asyncio.Event
    after: int = 4


class Reply(msgspec.Struct, frozen=True):
    """An answer; `stop` follows from the blocks, `tokens` from the fake's own prompt cache, unless given."""

    blocks: tuple[Block, ...] = ()
    stop: str | None = None
    tokens: Tokens | None = None
    model: str = ""
    details: Json | None = None
    fault: Fault | ErrorEvent | Hold | None = None
    piece: int = 6
    """Characters a delta."""


class Events(msgspec.Struct, frozen=True):
    """A stream given event by event."""

    events: tuple[Json, ...]


class Refuse(msgspec.Struct, frozen=True):
    """An error before any stream."""

    status: int
    type: str = "api_error"
    message: str = "refused by the script"
    detail: str = ""
    headers: dict[str, str] = {}


Step = Reply | Events | Refuse


def say(text: str) -> Reply:
    return Reply(blocks=(Text(text=text),))


def use(use_id: str, name: str, /, **arguments: object) -> ToolUse:
    return ToolUse(id=use_id, name=name, arguments=msgspec.Raw(msgspec.json.encode(arguments)))


def reply_events(reply: Reply, *, model: str, tokens: Tokens) -> list[Json]:
    """The whole stream of an answer, as the real API sends it."""
    asks = any(isinstance(block, ToolUse) for block in reply.blocks)
    stop = reply.stop or ("tool_use" if asks else "end_turn")
    usage = {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
    }
    message: Json = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1},
    }  # fmt: skip
    events: list[Json] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(reply.blocks):
        events += _block_events(index, block, piece=reply.piece)
        if index == 0:
            events.insert(2, {"type": "ping"})
    end: Json = {"stop_reason": stop, "stop_sequence": None, "stop_details": reply.details}
    events.append({"type": "message_delta", "delta": end, "usage": {**usage, "output_tokens": tokens.output}})
    return [*events, {"type": "message_stop"}]


def _block_events(index: int, block: Block, *, piece: int) -> Iterator[Json]:
    begun, deltas = _parts(block, piece=piece)
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _parts(block: Block, *, piece: int) -> tuple[Json, list[Json]]:
    match block:
        case Text(text=text):
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": part} for part in _cut(text, piece)]
        case Thinking(text=text, signature=signature):
            words = [{"type": "thinking_delta", "thinking": part} for part in _cut(text, piece)]
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                *words,
                {"type": "signature_delta", "signature": signature},
            ]
        case ToolUse(id=use_id, name=name, arguments=arguments):
            parts = ["", *_cut(bytes(arguments).decode(), piece)]
            begun: Json = {"type": "tool_use", "id": use_id, "name": name, "input": {}}
            return begun, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _cut(text: str, piece: int) -> list[str]:
    return [text[at : at + piece] for at in range(0, len(text), piece)]


def sse(event: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
