"""What a tick costs: one model call and one tool call, both no-ops, through the whole engine, beside four bare appends.

Printed, not asserted: a timing is no test. `make bench` shows the table.
"""

import asyncio
import time
from pathlib import Path
from statistics import median

from actors.cassette import Cassette
from deploy.nats_server import NatsServer
from events.clock import SystemClock
from events.envelope import Entry
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from events.run import RunStarted
from events.subjects import Address
from tests.integration.engine import Rig, rig, say, step

TICKS = 20
RUNS = 100
EVENTS_A_TICK = 4
NOOP = {"calls": [say("list_files")]}
SCRIPT = Cassette.from_dict(
    {"delay": 0, "steps": [{"turns": [*[NOOP] * TICKS, {"calls": [say("finish", summary="done")]}]}]}
)


async def lone(one: Rig) -> float:
    """Return milliseconds a tick of a run that is alone."""
    began = time.perf_counter()
    await one.end(await one.start(step("a")))
    return (time.perf_counter() - began) / (TICKS + 1) * 1000


async def together(one: Rig) -> float:
    """Return ticks a second of many runs at once."""
    began = time.perf_counter()
    runs = await asyncio.gather(*(one.start(step("a")) for _ in range(RUNS)))
    await asyncio.gather(*(one.end(run, seconds=300) for run in runs))
    return RUNS * (TICKS + 1) / (time.perf_counter() - began)


async def bare(url: str, actors: int) -> float:
    """Return ticks a second of nothing but a tick's appends, by `actors` at once."""
    clock = SystemClock()
    async with connect(url, name="bare") as bus:
        await ensure_streams(bus)
        facts = JetStreamLog(bus)

        async def grow(number: int) -> None:
            address, last = Address("bench", clock.new_id("run"), f"s{number}"), 0
            for version in range(1, TICKS * EVENTS_A_TICK + 1):
                entry = Entry(
                    address=address, to="-", fact=RunStarted(), id=clock.new_id("evt"), time_ms=clock.now_ms(),
                    causation="", version=version,
                )  # fmt: skip
                last = await facts.append(entry, expected=last)

        began = time.perf_counter()
        await asyncio.gather(*(grow(number) for number in range(actors)))
        return actors * TICKS / (time.perf_counter() - began)


async def test_ticks(tmp_path: Path) -> None:
    rows: list[tuple[str, float, float]] = []
    for name, always in (("server's default sync", False), ("sync_interval: always", True)):
        async with NatsServer(tmp_path / name.replace(" ", "-"), sync_always=always) as server:
            floor_alone, floor_together = await bare(server.url, 1), await bare(server.url, RUNS)
            async with rig(server.url, tmp_path / "home", SCRIPT, max_agents=RUNS) as one:
                await lone(one)
                alone = median([await lone(one) for _ in range(5)])
                rate = median([await together(one) for _ in range(3)])
        rows.append((f"{name}: a lone tick, ms", alone, alone / (1000 / floor_alone)))
        rows.append((f"{name}: ticks a second, {RUNS} runs", rate, rate / floor_together))
    print("\n\nworkers alone, one process; ratio to four bare appends a tick in the same run")
    for name, value, ratio in rows:
        print(f"{name:<50} {value:>9.2f}   x {ratio:.2f}")
