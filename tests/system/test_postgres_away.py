"""Postgres away: runs, streams, commands and events go on, processes start without it, and the rows catch up."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import EVERY_FACT
from gateway.client import Client
from projections.rebuild import dump, rebuild
from projections.store import open_store
from tests.system.processes import House, house
from tests.system.small import definition, settings

RUNS = 100


class Follower:
    """Follows a run by its stream to its end, whatever happens to the gateway."""

    def __init__(self, one: House, run: str) -> None:
        self.joined = asyncio.Event()
        self.task = asyncio.create_task(self._follow(one, run))

    async def _follow(self, one: House, run: str) -> str:
        """Return the name of the last event."""
        last = ""
        async with Client(one.api) as client:
            async for frame in client.stream(f"/v1/runs/{run}/events/stream", after=0):
                self.joined.set()
                last = frame.event if frame.seq else last
        return last


async def rows_equal_a_rebuild(one: House) -> None:
    """Wait until the rows are level with the log, fold it anew, and compare them all."""
    async with connect(one.nats.url, name="test") as bus, open_store(one.postgres.url) as store:
        log = JetStreamLog(bus)
        end = await log.last(EVERY_FACT)
        assert await store.caught_up(end, 60)
        kept = await dump(store)
        await rebuild(store, log)
        assert await dump(store) == kept
        assert sum(map(len, kept.values())) > RUNS


async def without_postgres(one: House, runs: list[str]) -> None:
    """Gateway and projector start again without Postgres, and the doors do what the log alone allows."""
    await asyncio.gather(one.kill("gateway"), one.kill("projector"))
    async with httpx2.AsyncClient(base_url=one.api, timeout=10, trust_env=False) as http:
        listed = await http.get("/v1/runs")
        assert (listed.status_code, listed.json()["code"]) == (503, "database_unavailable")
        assert int(listed.headers["retry-after"]) > 0
        assert (await http.get(f"/v1/runs/{runs[0]}")).json()["id"] == runs[0]
        assert (await http.get(f"/v1/runs/{runs[0]}/events")).json()["data"]
        assert (await http.get("/readyz")).json()["status"] == "degraded"


@pytest.mark.timeout(400)
async def test_a_hundred_runs_end_while_postgres_is_away_and_the_rows_are_those_of_a_rebuild(
    tmp_path: Path, full: bool
) -> None:
    away_seconds = 60 if full else 8
    loop = asyncio.get_running_loop()
    async with house(tmp_path, settings=settings(tmp_path, seconds=away_seconds * 0.75)) as one:
        runs = [await one.create_run(goal=f"run {number}", definition=definition()) for number in range(RUNS // 2)]
        one.postgres.kill()
        back_at = loop.time() + away_seconds
        runs += [
            await one.create_run(goal=f"run {number}", definition=definition()) for number in range(RUNS // 2, RUNS)
        ]
        followers = [Follower(one, run) for run in runs]
        await asyncio.gather(*(each.joined.wait() for each in followers))
        await without_postgres(one, runs)
        await asyncio.sleep(back_at - loop.time())  # the outage itself is what is waited for
        await one.postgres.start()
        assert set(await asyncio.gather(*(each.task for each in followers))) == {"run.succeeded"}
        await rows_equal_a_rebuild(one)
