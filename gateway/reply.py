"""What goes back over HTTP, as ASGI applications: whole bodies, streams of events, and problems."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar.types import HTTPReceiveMessage, Receive, Scope, Send

from gateway.errors import RETRY_AFTER_SECONDS, Problem

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
SEND_SECONDS_MAX: Final = 30.0
Headers = Mapping[str, str]


class Reply:
    """A whole response."""

    def __init__(
        self, body: bytes = b"", *, status: int = 200, media_type: str = JSON, headers: Headers | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers = {"Content-Type": media_type, "Cache-Control": "no-store", **(headers or {})}
        if not body:
            del self.headers["Content-Type"]
        if status not in (204, 304):
            self.headers["Content-Length"] = str(len(body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": encoded(self.headers)})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class StreamReply:
    """A response whose length is not known. A client that takes nothing for `send_seconds` is left; `closed` is called at the end."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        media_type: str = EVENT_STREAM,
        status: int = 200,
        headers: Headers | None = None,
        send_seconds: float = SEND_SECONDS_MAX,
        closed: Callable[[], None] | None = None,
    ) -> None:
        self.chunks = chunks
        self.status = status
        self.headers = {
            "Content-Type": media_type,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            **(headers or {}),
        }
        self.send_seconds = send_seconds
        self.closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(send))
                watching = group.create_task(_leave(receive, sending))
                await asyncio.wait([sending])
                watching.cancel()
        finally:
            if self.closed is not None:
                self.closed()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": encoded(self.headers)})
        async with aclosing(self.chunks) as chunks:
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(self.send_seconds):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                except TimeoutError:
                    return  # the server closes a response that is not complete
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _leave(receive: Receive, sending: "asyncio.Task[None]") -> None:
    """Stop sending when the client has gone."""
    message: HTTPReceiveMessage | Any = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
    sending.cancel()


def encoded(headers: Headers) -> Sequence[tuple[bytes, bytes]]:
    """Return headers as ASGI takes them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def problem_reply(problem: Problem, *, instance: str, request_id: str, headers: Headers | None = None) -> Reply:
    """Return a problem as a response; what may be tried again says when."""
    more = dict(headers or {})
    if problem.retryable:
        more.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    body = msgspec.json.encode(problem.body(instance=instance, request_id=request_id))
    return Reply(body, status=problem.status, media_type=PROBLEM, headers=more)
