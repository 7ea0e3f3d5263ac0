"""The rows are what the deciders fold (I2): the logs of simulated schedules projected into a real Postgres."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from actors.decider import fold
from actors.run import RUN
from events import codec, envelope
from events.envelope import Record
from events.memory import MemoryLog
from events.run import RunCanceled, RunFailed, RunSucceeded, RunTimedOut
from events.subjects import Address
from projections import runs
from projections.rebuild import dump, rebuild
from projections.store import Store, open_store
from tests.projected import project

ROOT: Final = Path(__file__).parents[2]
SEEDS: Final = (2, 5, 24, 26)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


async def simulated(seed: int, folder: Path) -> list[Record]:
    """Play a schedule in a process of its own and return its log."""
    path = folder / f"{seed}.jsonl"
    words = ["-m", "tests.simulation", "--seed", str(seed), "--dump", str(path)]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, env={"PYTHONHASHSEED": "0"})
    assert await process.wait() == 0
    return [record_of(line) for line in path.read_bytes().splitlines()]


def record_of(line: bytes) -> Record:
    seq, subject, headers, body = msgspec.json.decode(line, type=tuple[int, str, dict[str, str], str])
    fact = codec.decode(body.encode(), headers[envelope.TYPE])
    return envelope.to_record(seq=seq, subject=subject, headers=headers, body=body.encode(), fact=fact)


def status_of(records: list[Record], run: Address) -> str:
    """Return how a run ended, by its decider's own fold."""
    end = fold(RUN, run, [record for record in records if record.address == run]).end
    match end:
        case RunSucceeded():
            return "succeeded"
        case RunFailed():
            return "failed"
        case RunTimedOut():
            return "timed_out"
        case RunCanceled():
            return "canceled"
        case None:
            return ""


async def test_rows_of_simulated_runs_say_what_their_deciders_fold(store: Store, tmp_path: Path):
    for seed in SEEDS:
        await rebuild(store, MemoryLog())
        records = await simulated(seed, tmp_path)
        await project(store, records, batch=1)
        one_by_one = await dump(store)
        for run in {record.address for record in records if record.type == "run.requested.v1"}:
            row = await runs.run(store, run.workspace, run.run)
            assert row is not None
            assert row.status == status_of(records, run), f"seed {seed}: {run}"
        await rebuild(store, MemoryLog())
        await project(store, records, batch=len(records))
        assert await dump(store) == one_by_one, f"seed {seed}"
