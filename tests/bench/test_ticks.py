"""What a tick costs: one model call and one tool call, both no-ops, through the whole engine, beside a bare prototype of four events.

Printed, not asserted: a timing is no test. `make bench` shows the table.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import structlog

from actors.cassette import Cassette
from deploy.nats_server import NatsServer
from events.clock import SystemClock
from events.jetstream.connection import connect
from events.jetstream.streams import ensure_streams
from tests.bench.prototype import Actors, serve
from tests.integration.engine import Rig, rig, say, step

TICKS = 20
RUNS = 100
ROUNDS = 5
NOOP = {"calls": [say("list_files")]}
SCRIPT = Cassette.from_dict(
    {"delay": 0, "steps": [{"turns": [*[NOOP] * TICKS, {"calls": [say("finish", summary="done")]}]}]}
)

Run = Callable[[], Awaitable[object]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log as a worker does: what nobody reads is not written."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()


async def measured(one: Run, ticks: int) -> tuple[float, float]:
    """Return milliseconds a tick of a run that is alone, and ticks a second of many at once: medians."""
    await one()
    lone: list[float] = []
    rates: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await one()
        lone.append((time.perf_counter() - began) / ticks * 1000)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(RUNS)))
        rates.append(RUNS * ticks / (time.perf_counter() - began))
    return median(lone), median(rates)


async def bare(url: str) -> tuple[float, float]:
    """Measure the prototype."""
    clock, stop = SystemClock(), asyncio.Event()
    async with connect(url, name="bare") as bus, asyncio.TaskGroup() as group:
        await ensure_streams(bus)
        actors = Actors(bus, TICKS)
        group.create_task(serve(bus, actors, stop))
        found = await measured(lambda: actors.run(clock.new_id("run")), TICKS)
        stop.set()
    return found


async def ours(one: Rig) -> tuple[float, float]:
    """Measure the engine; the call that ends a run counts as a tick, what begins it does not."""

    async def run() -> None:
        await one.end(await one.start(step("a")), seconds=300)

    return await measured(run, TICKS + 1)


async def test_ticks(tmp_path: Path) -> None:
    rows: list[tuple[str, float, float]] = []
    for name, always in (("server's default sync", False), ("sync_interval: always", True)):
        async with NatsServer(tmp_path / name.replace(" ", "-"), sync_always=always) as server:
            floor_lone, floor_rate = await bare(server.url)
            async with rig(server.url, tmp_path / "home", SCRIPT, max_agents=RUNS) as one:
                lone, rate = await ours(one)
        rows.append((f"{name}: a lone tick, ms", lone, lone / floor_lone))
        rows.append((f"{name}: ticks a second, {RUNS} runs", rate, rate / floor_rate))
    print("\n\nworkers alone, one process; ratio to a bare prototype of four events a tick in the same run")
    for name, value, ratio in rows:
        print(f"{name:<50} {value:>9.2f}   x {ratio:.2f}")
