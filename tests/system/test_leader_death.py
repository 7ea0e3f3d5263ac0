"""The NATS node that leads the calls' queue dies with 200 calls in flight: every ticket comes again, nothing is run twice."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from deploy.process import becomes_true
from events.jetstream.api import CALLBOARD
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import EVERY_FACT
from tests.chaos.cluster import leader_of
from tests.chaos.stage import Stage, stage
from tests.system.target import counted, one_step

RUNS = 10
CALLS = 20
CALL_SECONDS = 25
DOWN_SECONDS = 3
ENDS = ("run.succeeded.v1", "run.failed.v1")
AGAIN = ("tool.started.v1", "model.taken_over.v1", "tool.reissued.v1", "model.reissued.v1")


async def begin(one: Stage) -> None:
    lines = [f"1 {'charge' if number % 2 else 'look'} {CALL_SECONDS} {number}" for number in range(CALLS)]
    async with httpx2.AsyncClient(base_url=one.api, timeout=10) as client:
        for _ in range(RUNS):
            answer = await client.post("/v1/runs", json=one_step(*lines))
            assert answer.status_code == 202, answer.text


@pytest.mark.timeout(240)
async def test_no_call_of_a_living_worker_is_run_again_when_the_leader_dies(tmp_path: Path) -> None:
    settings = {"CALLBOARD_MAX_TOOLS": "80"}
    async with stage(tmp_path, settings=settings, sync_always=False) as one, connect(one.nats.url, name="test") as bus:
        await begin(one)
        assert await becomes_true(lambda: counted(one.folder)["asked"] == RUNS * CALLS, within_seconds=60)
        node = one.nats.node(await leader_of(bus, CALLBOARD, "tool-local"))
        node.kill()
        await asyncio.sleep(DOWN_SECONDS)  # how long it is away is what the test gives
        await node.start()
        ended = 0
        async with asyncio.timeout(120):
            async for batch in JetStreamLog(bus).follow(EVERY_FACT, after=0):
                ended += sum(record.type in ENDS for record in batch)
                if ended == RUNS:
                    break
        records = await JetStreamLog(bus).load(EVERY_FACT)
    assert [one.type for one in records if one.type in ENDS] == ["run.succeeded.v1"] * RUNS
    again = [one for one in records if one.type in AGAIN and getattr(one.fact, "epoch", 0) > 1]
    assert [f"{one.seq} {one.type} {one.address}" for one in again] == []
    assert counted(tmp_path) == {"asked": RUNS * CALLS, "done": RUNS * CALLS, "answered": RUNS * CALLS}
