"""Three nodes as one log: any of them may be killed, and what was acknowledged stays."""

import asyncio
from pathlib import Path

import pytest

from deploy.nats_cluster import NatsCluster
from events.envelope import Entry
from events.jetstream.api import CALLBOARD
from events.jetstream.connection import Bus, connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from events.run import RunStarted
from events.subjects import EVERY_FACT, Address
from tests.chaos.cluster import leader_of

APPENDS = 60


def entry(number: int) -> Entry:
    address = Address("default", f"run_{number}")
    return Entry(address=address, to="-", fact=RunStarted(), id=f"evt_{number}", time_ms=0, causation="", version=1)


async def append(bus: Bus, number: int) -> int:
    """Append until it is stored, as every writer does."""
    log = JetStreamLog(bus)
    return await log.append(entry(number), expected=0)


@pytest.mark.timeout(120)
async def test_appends_outlive_the_leader_on_a_client_that_knows_all_nodes(tmp_path: Path) -> None:
    async with NatsCluster(tmp_path) as cluster, connect(cluster.url, name="test") as bus:
        await ensure_streams(bus, replicas=3)
        stored = [await append(bus, number) for number in range(APPENDS // 2)]
        killed = cluster.node(await leader_of(bus, CALLBOARD))
        killed.kill()
        stored += [await append(bus, number) for number in range(APPENDS // 2, APPENDS)]
        await killed.start()
        await cluster.until_led()
        async with asyncio.timeout(30):
            assert await JetStreamLog(bus).last(EVERY_FACT) == stored[-1]
        found = await JetStreamLog(bus).load(EVERY_FACT)
        assert [record.seq for record in found] == stored == list(range(1, APPENDS + 1))
        assert {record.address.run for record in found} == {f"run_{number}" for number in range(APPENDS)}
