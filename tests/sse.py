"""Server-sent events as a browser reads them, and what a client keeps of them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec


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
