"""The command line while its gateway goes away and comes back: it says so, misses nothing, and gives up cleanly."""

import asyncio
from pathlib import Path

import pytest

from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from tests.system.cli import Folder, ended
from tests.system.processes import house
from tests.system.small import definition, settings

pytestmark = pytest.mark.timeout(240)


async def joined(folder: Folder, *arguments: str) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start a command that follows; return it, and what it has told, when that is something."""
    process = await folder.start(*arguments)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return process, await process.stdout.readline()


async def test_a_follower_says_that_the_gateway_is_away_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async with house(tmp_path, settings=settings(tmp_path, seconds=12)) as one:
        folder = Folder(tmp_path, CALLBOARD_API_URL=one.api)
        run = await one.create_run(goal="followed", definition=definition())
        (watching, _), (telling, first) = await asyncio.gather(
            joined(folder, "runs", "watch", run, "-o", "jsonl"),
            joined(folder, "events", run, "-f", "-o", "id"),
        )
        await one.kill("gateway")
        watched, told = await asyncio.gather(ended(watching), ended(telling))
        assert (watched.code, told.code) == (0, 0), watched.err + told.err
        for each in (watched, told):
            assert "the gateway is away" in each.err
            assert "the gateway is back; nothing was missed" in each.err
        async with connect(one.nats.url, name="test") as bus:
            records = await JetStreamLog(bus).load(run_scope("default", run))
        assert (first.decode() + told.out).split() == [str(record.seq) for record in records]
        assert '"status":"succeeded"' in watched.out.splitlines()[-1].replace(" ", "")


async def test_a_gateway_that_stays_away_is_exit_10_and_one_clear_line(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("it waits for a minute: --full")
    async with house(tmp_path, settings=settings(tmp_path, seconds=120)) as one:
        folder = Folder(tmp_path, CALLBOARD_API_URL=one.api)
        run = await one.create_run(goal="left alone", definition=definition())
        telling, _ = await joined(folder, "events", run, "-f")
        await one.processes["gateway"].kill()
        told = await ended(telling)
        assert told.code == 10
        assert "cannot reach a gateway" in told.err
        assert "Traceback" not in told.err
        await one.processes["gateway"].start()
