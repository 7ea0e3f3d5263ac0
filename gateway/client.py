"""The command line's way to a gateway: requests and event streams over HTTP, refusals as Problems.

GatewayError
├─ Unreachable   nobody answers at that address
│  └─ Silent     somebody listens there, and gives no answer
└─ (Problem)     the gateway says no: see gateway.errors
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self, TypeVar

import httpx2
import msgspec

from events.clock import SystemClock
from gateway.errors import Fault, Problem

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 30.0
SILENCE_SECONDS_MAX: Final = 45.0
"""A stream without as much as a heartbeat for so long is dead."""
LOST_SECONDS_MAX: Final = 60.0
AGAIN_SECONDS: Final = (0.1, 0.25, 0.5, 1.0)
PAGE: Final = 200

T = TypeVar("T")
Params = Mapping[str, str | int | list[str] | None]


class GatewayError(Exception):
    """Something about the gateway."""


class Unreachable(GatewayError):
    """Nobody answers there."""

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(f"cannot reach a gateway at {url}: {why}")


class Silent(Unreachable):
    """Somebody is there, and gives no answer: what is behind the gateway may hang."""


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream: its sequence (0: none), name and JSON."""

    seq: int
    event: str
    data: bytes


class _Problem(msgspec.Struct):
    """What of a problem document is read; the rest is for others."""

    status: int = 0
    code: str = ""
    detail: str = ""
    title: str = ""
    hint: str = ""
    errors: tuple[Fault, ...] = ()
    recorded: Any = None


class Client:
    """One gateway."""

    def __init__(self, url: str, *, key: str = "", workspace: str = "default") -> None:
        self.url = url.rstrip("/")
        headers = {"Callboard-Workspace": workspace, "User-Agent": "callboard-cli"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            trust_env=False,
            verify=not self.url.startswith("http://"),  # reading all certificates takes longer than most answers
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def raw(self, path: str, **params: str | int | list[str] | None) -> bytes:
        """Return the JSON at `path`. Raises Problem, Unreachable."""
        return await self._send("GET", path, params=params)

    async def get(self, path: str, answer: type[T], **params: str | int | list[str] | None) -> T:
        """Return what stands at `path`; parameters that are None are left out. Raises Problem, Unreachable."""
        return msgspec.json.decode(await self._send("GET", path, params=params), type=answer)

    async def post(self, path: str, body: Any, answer: type[T], *, key: str = "") -> T:
        """Send JSON and return the answer; `key` is an idempotency key. Raises Problem, Unreachable."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        sent = msgspec.json.encode(body)
        return msgspec.json.decode(await self._send("POST", path, content=sent, headers=headers), type=answer)

    async def delete(self, path: str, answer: type[T], **params: str | int | list[str] | None) -> T:
        """Take away what stands at `path` and return the answer. Raises Problem, Unreachable."""
        return msgspec.json.decode(await self._send("DELETE", path, params=params), type=answer)

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the gateway answers, as long as a stream would wait for it; only for what may be asked twice.

        Raises what the last try raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOST_SECONDS_MAX
        while True:
            try:
                return await ask()
            except (Unreachable, Problem) as fault:
                away = isinstance(fault, Unreachable) or fault.status == 503
                if not away or loop.time() > deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS[-1])

    async def clock_offset(self) -> float:
        """Return how far the gateway's clock is ahead of ours, to the second. Raises Unreachable."""
        try:
            response = await self._http.get("/healthz")
        except httpx2.TransportError as fault:
            raise _unreachable(self.url, fault) from None
        told = parsedate_to_datetime(response.headers["date"]) if "date" in response.headers else None
        return told.timestamp() - SystemClock().now_ms() / 1000 if told else 0.0

    async def page(self, path: str, *, limit: int, **params: str | int | list[str] | None) -> list[bytes]:
        """Return up to `limit` rows of a list as JSON. Raises Problem, Unreachable."""
        return (await self.rows(path, limit=limit, **params)).rows

    async def rows(self, path: str, *, limit: int = 0, **params: str | int | list[str] | None) -> "Rows":
        """Return a list's rows as JSON over as many pages as it takes, at most `limit` (0: all)."""
        found: list[bytes] = []
        after = params.pop("after", None)
        while True:
            size = min(PAGE, limit - len(found)) if limit else PAGE
            page = await self.get(path, Listed, limit=size, after=after, **params)
            found += [bytes(each) for each in page.data]
            after = page.next_cursor
            if not page.has_more or after is None or (limit and len(found) >= limit):
                return Rows(found, page.has_more, page.next_cursor)

    async def stream(
        self,
        path: str,
        *,
        after: int | None = None,
        away: Callable[[str], None] = lambda _: None,
        **params: str | int | list[str] | None,
    ) -> AsyncGenerator[Frame]:
        """Yield a stream's events up to its `end`; a broken connection is made again behind the last event.

        `away` is told why the gateway is gone, and an empty text when it is back. Raises Problem, and Unreachable once it
        stays away for a minute.
        """
        loop = asyncio.get_running_loop()
        last, joined, tries, lost_at = after, False, 0, 0.0
        while True:
            why = "the stream broke off"
            try:
                async with aclosing(self._frames(path, last, params)) as frames:
                    async for frame in frames:
                        if frame.event == "error":
                            why = _told(frame.data)
                            break
                        if lost_at:
                            away("")
                        joined, tries, lost_at, last = True, 0, 0.0, frame.seq or last
                        yield frame
                        if frame.event == "end":
                            return
            except (Unreachable, Problem) as fault:
                if not joined or (isinstance(fault, Problem) and fault.status < 500):
                    raise
                why = str(fault)
            lost_at = lost_at or loop.time()
            away(why)
            if loop.time() - lost_at > LOST_SECONDS_MAX:
                raise Unreachable(self.url, why)
            await asyncio.sleep(AGAIN_SECONDS[min(tries, len(AGAIN_SECONDS) - 1)])
            tries += 1

    async def _frames(self, path: str, last: int | None, params: Params) -> AsyncGenerator[Frame]:
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": str(last)})
        timeout = httpx2.Timeout(SILENCE_SECONDS_MAX, connect=CONNECT_SECONDS)
        try:
            async with self._http.stream(
                "GET", path, params=_given(params), headers=headers, timeout=timeout
            ) as response:
                if response.status_code == 204:
                    yield Frame(0, "end", b"{}")
                    return
                if response.status_code >= 400:
                    raise problem_of(response.status_code, await response.aread())
                parser = Parser()
                async for line in response.aiter_lines():
                    if (frame := parser.take(line)) is not None:
                        yield frame
        except httpx2.TransportError as fault:
            raise _unreachable(self.url, fault) from None

    async def _send(
        self, method: str, path: str, *, params: Params | None = None, content: bytes = b"", headers: Any = None
    ) -> bytes:
        try:
            response = await self._http.request(
                method, path, params=_given(params or {}), content=content or None, headers=headers
            )
        except httpx2.TransportError as fault:
            raise _unreachable(self.url, fault) from None
        except httpx2.InvalidURL as fault:
            raise Unreachable(self.url, str(fault)) from None
        if response.status_code >= 400:
            raise problem_of(response.status_code, response.content)
        return response.content


class Rows(msgspec.Struct):
    """Some rows of a list as JSON, whether there are more, and where they begin."""

    rows: list[bytes]
    has_more: bool
    next_cursor: str | int | None


class Listed(msgspec.Struct):
    """A page of a list."""

    data: list[msgspec.Raw]
    has_more: bool = False
    next_cursor: str | int | None = None


class Parser:
    """Server-sent events, line by line (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._seq = 0
        self._event = ""
        self._data: list[str] = []

    def take(self, line: str) -> Frame | None:
        """Take a line in; return the event that an empty one ends."""
        if not line:
            frame = Frame(self._seq, self._event or "message", "\n".join(self._data).encode()) if self._data else None
            self._seq, self._event, self._data = 0, "", []
            return frame
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and value.isdigit():
            self._seq = int(value)
        return None


def problem_of(status: int, body: bytes) -> Problem:
    """Return the Problem that a response is; a body that is none is quoted."""
    try:
        told = msgspec.json.decode(body, type=_Problem, strict=False)
    except msgspec.DecodeError:
        told = _Problem()
    detail = told.detail or told.title or body[:200].decode(errors="replace").strip() or "no reason was given"
    return Problem(
        told.status or status,
        told.code or f"http_{status}",
        detail,
        hint=told.hint,
        errors=told.errors,
        recorded=told.recorded,
    )


def _told(data: bytes) -> str:
    """Return why a stream ends early. Raises Problem if it is for good."""
    problem = problem_of(0, data)
    if problem.status < 500 and problem.status != 429:
        raise problem
    return problem.detail


def _given(params: Params) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != ""}


def _unreachable(url: str, fault: Exception) -> Unreachable:
    kind = Silent if isinstance(fault, httpx2.ReadTimeout) else Unreachable
    return kind(url, _why(fault))


def _why(fault: Exception) -> str:
    match fault:
        case httpx2.ConnectTimeout() | httpx2.ReadTimeout():
            return "no answer in time"
        case httpx2.ConnectError():
            return (
                "nobody listens there"
                if "refused" in str(fault).lower() or "All connection" in str(fault)
                else str(fault)
            )
        case _:
            return str(fault) or type(fault).__name__
