"""The runner between a real log and a real Postgres: nats-server killed in mid-stream, and what a rebuild costs."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest

from deploy.nats_server import NatsServer
from events.envelope import Record
from events.jetstream.connection import Bus, connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from events.log import Log
from events.memory import MemoryLog
from events.subjects import EVERY_FACT, Address
from projections.rebuild import dump, rebuild
from projections.runner import Runner
from projections.store import Store, open_store
from tests.history import History, entry
from tests.projected import project
from tests.stories import many

SECONDS = 60.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="projector") as bus:
        await ensure_streams(bus)
        yield bus


async def appended(log: Log, records: list[Record]) -> None:
    lasts: dict[Address, int] = {}
    for record in records:
        lasts[record.address] = await log.append(entry(record), expected=lasts.get(record.address, 0))


async def side_by_side(log: Log, history: History) -> None:
    """Append runs at once, each in its own order."""
    runs: dict[Address, list[Record]] = defaultdict(list)
    for record in history.records:
        runs[Address(record.address.workspace, record.address.run)].append(record)
    async with asyncio.TaskGroup() as tasks:
        for records in runs.values():
            tasks.create_task(appended(log, records))


async def test_rows_are_the_fold_of_the_log_though_nats_is_killed_in_mid_stream(
    store: Store, bus: Bus, nats_server: NatsServer
):
    log, history = JetStreamLog(bus), many(30)
    projecting = asyncio.create_task(Runner(store, log).run())
    appending = asyncio.create_task(side_by_side(log, history))
    for share in (0.2, 0.4, 0.6):
        assert await store.caught_up(int(len(history.records) * share), SECONDS)
        nats_server.kill()
        await nats_server.start()
    await appending
    assert await store.caught_up(await log.last(EVERY_FACT), SECONDS)
    projecting.cancel()
    rows = await dump(store)
    assert len(rows["timeline"]) == len(history.records)
    await rebuild(store, MemoryLog())
    await project(store, await log.load(EVERY_FACT))
    assert await dump(store) == rows


async def test_a_rebuild_of_a_hundred_thousand_facts(store: Store, record_property: Callable[[str, object], None]):
    """Nothing is asserted of the time: it is reported with `-s`, and in the junit file."""
    log, history = MemoryLog(), many(1150)
    await history.pour(log)
    began = time.perf_counter()
    assert await rebuild(store, log) == len(history.records)
    rate = len(history.records) / (time.perf_counter() - began)
    record_property("events_per_second", round(rate))
    print(f"\n{len(history.records)} facts rebuilt at {rate:,.0f} a second")
