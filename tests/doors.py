"""A gateway with everything behind it but workers: a real log, a real Postgres with its projector, HTTP and NATS doors.

async with open_doors(nats_url, database_url, tmp_path) as doors:
    answer = await doors.http.post("/v1/runs", json={"goal": "write a haiku"})
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from actors.cassette import Cassette
from events.subjects import Address
from gateway.gateway import Limits
from gateway.serve import serve
from gateway.settings import Settings
from gateway.system import System, open_system
from projections.runner import Runner
from projections.store import Store, open_store
from tests.history import History, entry

PATIENCE = 30


class Doors:
    """The open parts, and a gateway that can be stopped and begun again at the same address."""

    def __init__(self, system: System, store: Store | None, limits: Limits) -> None:
        self.system = system
        self.store = store
        self.limits = limits
        self.http = httpx2.AsyncClient(timeout=PATIENCE, trust_env=False)
        self.url = ""
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def begin(self, *, port: int = 0) -> None:
        """Serve at a port, any by default."""
        self._stop = asyncio.Event()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.system.settings = msgspec.structs.replace(self.system.settings, port=port)
        self._serving = asyncio.create_task(
            serve(self.system, self.store, self._stop, ready=ready.set_result, limits=self.limits)
        )
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            self._serving.result()
        self.url = ready.result()
        self.http.base_url = httpx2.URL(self.url)

    async def end(self) -> None:
        """Stop serving, as a signal would."""
        self._stop.set()
        if self._serving is not None:
            await self._serving

    async def restart(self) -> None:
        """Stop, and begin again at the same address."""
        await self.end()
        await self.begin(port=httpx2.URL(self.url).port or 0)

    async def tell(self, history: History) -> None:
        """Append a told history to a log that may hold other things."""
        lasts: dict[Address, int] = {}
        for record in history.records:
            expected = lasts.get(record.address, 0)
            lasts[record.address] = await self.system.facts.append(entry(record), expected=expected)

    async def get(self, path: str, **more: Any) -> Any:
        """Return the JSON at a path, which must be there."""
        answer = await self.http.get(path, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.http.post(path, json=body or {}, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()


@asynccontextmanager
async def open_doors(
    nats_url: str,
    database_url: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    project: bool = True,
    settings: dict[str, Any] | None = None,
    cassette: Cassette | None = None,
) -> AsyncGenerator[Doors]:
    """Open a gateway; without a database URL it has no read models, without `project` they stay as they are."""
    chosen = Settings(nats_url=nats_url, home=str(folder / "home"), port=0, **(settings or {}))
    async with open_system(chosen, name="test", cassette=cassette) as system, _store(database_url) as store:
        doors = Doors(system, store, limits or Limits())
        projecting = asyncio.create_task(Runner(store, system.facts).run()) if store and project else None
        try:
            await doors.begin()
            yield doors
        finally:
            await doors.end()
            await doors.http.aclose()
            if projecting is not None and not projecting.cancel():
                projecting.result()


@asynccontextmanager
async def _store(database_url: str) -> AsyncGenerator[Store | None]:
    if not database_url:
        yield None
        return
    async with open_store(database_url) as store:
        yield store
