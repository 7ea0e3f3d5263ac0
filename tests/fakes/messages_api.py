"""A Messages API on loopback that speaks the real wire: what a test scripts for it, the real SDK reads.

    async with MessagesApi([say("hello"), Refuse(status=529)]) as api:
        model = AnthropicModel(api_key="any", base_url=api.url)

A function from the request's JSON to a reply, instead of a list, answers every call: whole runs can go through it.
Requests that the real API would refuse are refused, with its words; all are kept in `api.requests`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

import msgspec

from actors.model import Thinking
from tests.fakes.messages_cache import PromptCache, prompt_blocks
from tests.fakes.messages_rules import digest, fault_in
from tests.fakes.messages_sse import ErrorEvent, Events, Fault, Hold, Json, Refuse, Reply, Step, reply_events, sse

__all__ = ["Answers", "MessagesApi", "Seen"]

PING_SECONDS = 0.01

Answers = Iterable[Step] | Callable[[Json], Step | Awaitable[Step]]


class Seen(msgspec.Struct, frozen=True):
    """A request as it came in; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: Json


class MessagesApi:
    """The server; `url` is its base URL while it is entered."""

    def __init__(self, answers: Answers) -> None:
        self._answer = answers if callable(answers) else _in_turn(answers)
        self._cache = PromptCache()
        self._bound: dict[str, set[str]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.requests: list[Seen] = []
        self.connections = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def left(self) -> None:
        """Wait until every client has closed its connections."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while True:
                seen = await _read(reader)
                self.requests.append(seen)
                await self._respond(seen, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _respond(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match await self._step(seen):
            case Refuse() as refusal:
                await _send_json(writer, refusal.status, _error(refusal), headers=refusal.headers)
            case Events(events=events):
                await _stream(writer, reader, list(events), fault=None)
            case Reply() as reply:
                await _stream(writer, reader, self._events(reply, seen.body), fault=reply.fault)
            case int() as tokens:
                await _send_json(writer, 200, {"input_tokens": tokens})

    async def _step(self, seen: Seen) -> Step | int:
        key = seen.headers.get("authorization", "").removeprefix("Bearer ") or seen.headers.get("x-api-key", "")
        if not key or "anthropic-version" not in seen.headers:
            return Refuse(status=401, type="authentication_error", message="invalid x-api-key")
        if seen.path == "/v1/messages/count_tokens":
            return sum(len(msgspec.json.encode(block)) for block in prompt_blocks(seen.body)) // 4
        if seen.path != "/v1/messages":
            return Refuse(status=404, type="not_found_error", message=f"no such path: {seen.path}")
        if fault := fault_in(seen.body, self._bound):
            return Refuse(status=400, type="invalid_request_error", message=fault)
        step = self._answer(seen.body)
        return await step if isinstance(step, Awaitable) else step

    def _events(self, reply: Reply, body: Json) -> list[Json]:
        for block in reply.blocks:
            if isinstance(block, Thinking):
                self._bound.setdefault(block.signature, set()).add(digest(body, len(body["messages"])))
        tokens = reply.tokens or self._cache.tokens(body, output=len(msgspec.json.encode(reply.blocks)) // 4)
        return reply_events(reply, model=reply.model or body["model"], tokens=tokens)


def _in_turn(steps: Iterable[Step]) -> Callable[[Json], Step]:
    left = iter(steps)
    exhausted = Refuse(status=400, type="invalid_request_error", message="the script has no more replies")
    return lambda _: next(left, exhausted)


async def _read(reader: asyncio.StreamReader) -> Seen:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(path=line.split()[1].partition("?")[0], headers=headers, body=msgspec.json.decode(body or b"{}"))


def _error(refusal: Refuse) -> Json:
    error: Json = {"type": refusal.type, "message": refusal.message}
    if refusal.detail:
        error["details"] = {"error_code": refusal.detail}
    return {"type": "error", "error": error, "request_id": "req_fake"}


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "request-id: req_fake", "", ""]).encode()


async def _send_json(
    writer: asyncio.StreamWriter, status: int, body: Json, headers: dict[str, str] | None = None
) -> None:
    data = msgspec.json.encode(body)
    fixed = {"content-type": "application/json", "content-length": str(len(data))}
    writer.write(_head(status, fixed | (headers or {})) + data)
    await writer.drain()


async def _stream(
    writer: asyncio.StreamWriter,
    reader: asyncio.StreamReader,
    events: list[Json],
    *,
    fault: Fault | ErrorEvent | Hold | None,
) -> None:
    writer.write(_head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}))
    for at, event in enumerate([*events, None]):
        if fault is not None and at == fault.after and await _breaks(fault, reader, writer):
            break
        if event is not None:
            _write_chunk(writer, sse(event))
            await writer.drain()
    _write_chunk(writer, b"")
    await writer.drain()


def _write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _breaks(fault: Fault | ErrorEvent | Hold, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Do what the fault says; True when no more events come."""
    match fault:
        case Hold(until=until):
            await until.wait()
            return False
        case ErrorEvent(type=kind, message=message):
            _write_chunk(writer, sse({"type": "error", "error": {"type": kind, "message": message}}))
        case Fault(what="cut"):
            pass
        case Fault(what="garbage"):
            _write_chunk(writer, b'event: content_block_delta\ndata: {"type": "content_blo\n\n')
        case Fault(what="bad_chunk"):
            writer.write(b"no size\r\n")
        case Fault(what="reset"):
            await writer.drain()
            writer.transport.abort()
            raise ConnectionAbortedError
        case Fault(what="stall"):
            await _client_gone(reader)
        case Fault():
            await _ping_until_gone(reader, writer)
    return True


async def _client_gone(reader: asyncio.StreamReader) -> None:
    await reader.read(1)
    raise ConnectionAbortedError


async def _ping_until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    gone = asyncio.ensure_future(_client_gone(reader))
    while not (await asyncio.wait([gone], timeout=PING_SECONDS))[0]:
        _write_chunk(writer, sse({"type": "ping"}))
    await gone
