"""Ten demos side by side end well, on one worker process and on three."""

import asyncio
from pathlib import Path

import pytest

from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from tests.system.processes import DEMO, house

RUNS = 10
ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")


async def end(log: JetStreamLog, run: str) -> str:
    """Return the type of the run's terminal fact."""
    async for batch in log.follow(run_scope("default", run), after=0):
        for record in batch:
            if record.type in ENDS:
                return record.type
    return ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 3])
async def test_ten_demos_side_by_side_all_end_well(workers: int, tmp_path: Path) -> None:
    settings = {
        "CALLBOARD_CASSETTE": str(DEMO),
        "CALLBOARD_SCRIPT_SPEED": "8",
        "CALLBOARD_APPROVAL_POLICY": "auto",
    }
    async with house(tmp_path, workers=workers, settings=settings) as one:
        runs = [await one.create_run(goal=f"Build a small CRUD app, {n}", blueprint="software") for n in range(RUNS)]
        async with connect(one.nats.url, name="test") as bus:
            log = JetStreamLog(bus)
            async with asyncio.timeout(240):
                ends = await asyncio.gather(*(end(log, run) for run in runs))
        assert ends == ["run.succeeded.v1"] * RUNS
