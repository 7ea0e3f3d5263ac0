"""Any process may be killed at any moment of the demo: it ends with the same artifacts, each result accepted once."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from actors.decider import fold
from actors.run import RUN
from actors.run_state import RunState
from events.envelope import Record
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import Address, run_scope
from tests.system.processes import DEMO, House, house

GOAL = "Build a small CRUD app for managing TODO items"
KILLS = 10
GROWTH_MAX = 25
SPEED = "2"
SETTINGS = {
    "CALLBOARD_CASSETTE": str(DEMO),
    "CALLBOARD_SCRIPT_SPEED": SPEED,
    "CALLBOARD_APPROVAL_POLICY": "auto",
    "CALLBOARD_ACK_WAIT_SECONDS": "2",
}
ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")


async def demo(one: House, victim: str, seed: int) -> tuple[str, list[Record]]:
    """Run the demo, and kill the victim ten times, each time when the run has grown by a random number of events."""
    dice = random.Random(seed)
    kills, point = 0, dice.randint(1, GROWTH_MAX)
    run = await one.create_run(goal=GOAL, blueprint="software")
    records: list[Record] = []
    async with connect(one.nats.url, name="test") as bus:
        async for batch in JetStreamLog(bus).follow(run_scope("default", run), after=0):
            records += batch
            if records[-1].type in ENDS:
                return run, records
            if victim and kills < KILLS and len(records) >= point:
                await one.kill(victim)
                kills += 1
                point = len(records) + dice.randint(1, GROWTH_MAX)
    raise AssertionError("the log ended")


def artifacts(run: str, records: list[Record]) -> dict[str, tuple[str, int]]:
    """Return the files the run ended with, by the sha256 of their bytes."""
    address = Address("default", run)
    state: RunState = fold(RUN, address, [record for record in records if record.address == address])
    return {path: (file.sha, file.mode) for path, file in state.head.items()}


async def projected(one: House, run: str, last: int) -> list[int]:
    """Return the sequences of the run in the projection, once it has them up to `last`."""
    async with asyncio.timeout(30):
        while True:
            try:
                database = await asyncpg.connect(one.postgres.url)
                rows = await database.fetch("SELECT seq FROM callboard.timeline WHERE run = $1 ORDER BY seq", run)
                await database.close()
            except (OSError, asyncpg.PostgresError):
                rows = []
            if rows and rows[-1]["seq"] >= last:
                return [row["seq"] for row in rows]
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    async with house(tmp_path_factory.mktemp("calm"), settings=SETTINGS) as one:
        run, records = await demo(one, "", 0)
        assert records[-1].type == "run.succeeded.v1"
        return artifacts(run, records)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["worker-1", "gateway", "projector", "nats", "postgres"])
async def test_kill_9_at_ten_moments_of_the_demo_changes_nothing_of_its_outcome(
    victim: str, tmp_path: Path, undisturbed: dict[str, tuple[str, int]]
) -> None:
    async with house(tmp_path, settings=SETTINGS) as one:
        run, records = await demo(one, victim, seed=sum(map(ord, victim)))
        assert records[-1].type == "run.succeeded.v1", records[-1]
        assert artifacts(run, records) == undisturbed
        accepted = Counter(
            (record.fact.key, record.fact.attempt)  # type: ignore[attr-defined]
            for record in records
            if record.type in ("step.succeeded.v1", "gate.passed.v1", "gate.failed.v1")
        )
        assert set(accepted.values()) == {1}
        assert await projected(one, run, records[-1].seq) == [record.seq for record in records]
        starts = {name: process.starts for name, process in one.processes.items()}
        if victim in starts:
            assert starts[victim] == KILLS + 1


def second_worker(one: House, records: list[Record]) -> str:
    """Return the name of a worker that has written some of these records."""
    pids = {str(process.process.pid): name for name, process in one.processes.items() if process.process}
    for record in reversed(records):
        pid = record.engine.rpartition("-")[2]
        if pids.get(pid, "").startswith("worker"):
            return pids[pid]
    return "worker-1"


@pytest.mark.timeout(200)
async def test_a_worker_asked_to_stop_finishes_what_is_in_hand_and_nothing_is_taken_over(tmp_path: Path) -> None:
    async with house(tmp_path, workers=2, settings=SETTINGS) as one:
        run = await one.create_run(goal=GOAL, blueprint="software")
        records: list[Record] = []
        stopped = ""
        async with connect(one.nats.url, name="test") as bus:
            async for batch in JetStreamLog(bus).follow(run_scope("default", run), after=0):
                records += batch
                if not stopped and len(records) > 100:
                    stopped = second_worker(one, records)
                    assert await one.processes[stopped].stop() == 0
                if records[-1].type in ENDS:
                    break
        assert records[-1].type == "run.succeeded.v1"
        assert not [record.type for record in records if record.type in ("model.taken_over.v1", "tool.started.v1")]


@pytest.mark.timeout(200)
async def test_a_worker_that_slept_through_its_calls_changes_nothing_when_it_wakes(
    tmp_path: Path, undisturbed: dict[str, tuple[str, int]]
) -> None:
    async with house(tmp_path, workers=2, settings=SETTINGS) as one:
        run = await one.create_run(goal=GOAL, blueprint="software")
        records: list[Record] = []
        asleep = ""
        awake = False
        async with connect(one.nats.url, name="test") as bus:
            async for batch in JetStreamLog(bus).follow(run_scope("default", run), after=0):
                records += batch
                if not asleep and records[-1].type == "model.requested.v1" and len(records) > 60:
                    asleep = second_worker(one, records[-1:])
                    one.processes[asleep].pause()
                if asleep and not awake and any(record.type == "model.taken_over.v1" for record in records):
                    one.processes[asleep].wake()
                    awake = True
                if records[-1].type in ENDS:
                    break
        assert awake
        assert records[-1].type == "run.succeeded.v1"
        assert artifacts(run, records) == undisturbed
        outcomes = Counter((record.address, record.fact.turn) for record in records if record.type == "model.responded.v1")  # type: ignore[attr-defined]  # fmt: skip
        assert set(outcomes.values()) == {1}
