"""The doorway of HTTP: every request is named and answered, also when what is behind it breaks."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

import msgspec
import pytest
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import Guard
from gateway.http import Doorway
from gateway.reply import Reply, StreamReply
from gateway.settings import Settings


async def through(app: ASGIApp, *, path: str = "/v1/runs", method: str = "GET", **headers: str) -> list[Message]:
    numbers = count(1)
    doorway = Doorway(app, Guard(Settings()), headers_bytes_max=1000, new_id=lambda: f"req_{next(numbers)}")
    sent: list[Message] = []
    named = {"host": "127.0.0.1", **headers}
    scope: Any = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
    }

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await doorway(scope, receive, send)
    return sent


def headers_of(sent: list[Message]) -> dict[str, str]:
    start: Any = sent[0]
    return {name.decode(): value.decode() for name, value in start["headers"]}


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a bug")


async def broken_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("a bug")


async def test_a_bug_is_a_problem_that_tells_nothing_of_the_inside() -> None:
    sent: list[Any] = await through(broken)
    told = msgspec.json.decode(sent[1]["body"])
    assert (sent[0]["status"], told["code"], told["request_id"]) == (500, "internal", "req_1")
    assert "a bug" not in str(told)
    assert headers_of(sent)["request-id"] == "req_1"


async def test_a_bug_in_the_middle_of_an_answer_ends_it() -> None:
    with pytest.raises(RuntimeError):
        await through(broken_midway)


async def test_every_answer_is_named() -> None:
    sent = await through(Reply(b"{}"))
    assert headers_of(sent).keys() >= {"request-id", "traceresponse", "x-content-type-options", "content-length"}
    sent = await through(Reply(b"{}"), host="example.com")
    assert headers_of(sent)["content-type"] == "application/problem+json"
    assert headers_of(sent)["request-id"] == "req_1"


async def test_a_head_is_asked_as_a_get_unless_it_would_never_end() -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scoped: Any = scope
        asked.append(scoped["method"])
        await Reply(b"{}")(scope, receive, send)

    await through(app, method="HEAD")
    await through(app, method="HEAD", path="/v1/events/stream")
    assert asked == ["GET", "HEAD"]


async def test_headers_without_end_are_refused() -> None:
    sent: list[Any] = await through(Reply(b"{}"), pad="x" * 1000)
    assert sent[0]["status"] == 431
    assert headers_of(sent)["connection"] == "close"


async def test_a_stream_is_closed_when_its_client_leaves() -> None:
    closed: list[str] = []

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            yield b": hb\n\n"
            await asyncio.Event().wait()
        finally:
            closed.append("source")

    await through(StreamReply(chunks(), closed=lambda: closed.append("count")))
    assert closed == ["source", "count"]
