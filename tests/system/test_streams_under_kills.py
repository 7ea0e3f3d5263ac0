"""Clients of event streams while the gateway is killed again and again: each receives exactly the log."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx2
import msgspec
import pytest

from events.envelope import Record, structured
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from tests.sse import Event, EventSource
from tests.system.processes import House, house
from tests.system.small import definition, settings

KILL_SECONDS = 5.0
RUNS_PER_ROUND = 10
ROUND_SECONDS = 24.0


async def kill_on_and_on(one: House) -> None:
    while True:
        await asyncio.sleep(KILL_SECONDS)  # the interval is the test
        await one.kill("gateway")


def assert_is_log(found: list[Event], records: list[Record]) -> None:
    assert [event.id for event in found] == [str(record.seq) for record in records]
    assert [event.data.encode() for event in found] == [msgspec.json.encode(structured(record)) for record in records]


async def round_of(one: House, http: httpx2.AsyncClient, *, number: int, clients: int) -> tuple[int, int]:
    """Start some runs, let clients follow them to their ends, compare; return how many events came, over how many breaks."""
    runs = [
        await one.create_run(goal=f"round {number}, run {each}", definition=definition())
        for each in range(RUNS_PER_ROUND)
    ]
    sources = [EventSource(http, f"/v1/runs/{runs[each % len(runs)]}/events/stream?after=0") for each in range(clients)]
    founds = await asyncio.gather(*(source.run() for source in sources))
    async with connect(one.nats.url, name="test") as bus:
        log = JetStreamLog(bus)
        logs = [await log.load(run_scope("default", run)) for run in runs]
    for each, found in enumerate(founds):
        records = logs[each % len(runs)]
        assert records[-1].type == "run.succeeded.v1"
        assert_is_log(found, records)
    return sum(map(len, founds)), sum(source.breaks for source in sources)


@pytest.mark.timeout(900)
async def test_each_client_receives_exactly_the_log_while_the_gateway_is_killed_every_five_seconds(
    tmp_path: Path, full: bool
) -> None:
    clients, seconds = (200, 600.0) if full else (20, 0.0)
    loop = asyncio.get_running_loop()
    async with (
        house(tmp_path, settings=settings(tmp_path, seconds=ROUND_SECONDS)) as one,
        httpx2.AsyncClient(
            base_url=one.api, timeout=30, trust_env=False, verify=False, limits=httpx2.Limits(max_connections=None)
        ) as http,
    ):
        killing = asyncio.create_task(kill_on_and_on(one))
        began, rounds, events, breaks = loop.time(), 0, 0, 0
        while not rounds or loop.time() - began < seconds:
            more, broken = await round_of(one, http, number=rounds, clients=clients)
            rounds, events, breaks = rounds + 1, events + more, breaks + broken
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing
        kills = one.processes["gateway"].starts - 1
        print(
            f"{clients} clients, {rounds} rounds, {kills} kills, {breaks} broken streams, {events} events, 0 missed or twice"
        )
        assert kills >= 3
        assert breaks >= clients
