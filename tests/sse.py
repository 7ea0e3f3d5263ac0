"""Server-sent events as a browser reads them, and what a client keeps of them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec

AGAIN_SECONDS = 0.1


class Event(NamedTuple):
    """One event; `id` is empty if it has none. A comment is an event named `:`."""

    id: str
    name: str
    data: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.data)


async def events(response: httpx2.Response) -> AsyncGenerator[Event]:
    """Yield the events of a response as they come."""
    id_, name, data = "", "message", list[str]()
    async for line in response.aiter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "" if line:
                yield Event("", ":", value)
            case "":
                if data:
                    yield Event(id_, name, "\n".join(data))
                id_, name, data = "", "message", []
            case "id":
                id_ = value
            case "event":
                name = value
            case "data":
                data.append(value)
            case _:
                continue


@asynccontextmanager
async def streaming(http: httpx2.AsyncClient, path: str, **more: Any) -> AsyncGenerator[AsyncGenerator[Event]]:
    """Open a stream, which must begin, and give its events."""
    async with http.stream("GET", path, **more) as response:
        assert response.status_code == 200, await response.aread()
        yield events(response)


class EventSource:
    """A client of one stream as a browser is one: it comes back with its last id, until the stream ends or is 204."""

    def __init__(self, http: httpx2.AsyncClient, path: str) -> None:
        self.http = http
        self.path = path
        self.found: list[Event] = []
        self.breaks = 0

    async def run(self) -> list[Event]:
        """Return the events that have an id, in the order they came."""
        while not await self._joined():
            self.breaks += 1
            await asyncio.sleep(AGAIN_SECONDS)  # as `retry:` would say, only sooner
        return self.found

    async def _joined(self) -> bool:
        """Read one connection's events; tell whether that was the end of the stream."""
        last = {"Last-Event-ID": self.found[-1].id} if self.found else {}
        try:
            async with self.http.stream("GET", self.path, headers=last) as response:
                if response.status_code == 204:
                    return True
                if response.status_code >= 500:
                    return False
                assert response.status_code == 200, await response.aread()
                async for event in events(response):
                    if event.name == "end":
                        return True
                    if event.id:
                        self.found.append(event)
        except httpx2.TransportError:
            pass
        return False
