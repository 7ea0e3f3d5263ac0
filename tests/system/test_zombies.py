"""A worker that sleeps in a tool call, wakes up late and brings its outcome: it is refused, and its ack takes nobody's ticket."""

from pathlib import Path

import pytest

from deploy.process import becomes_true
from events.envelope import Record
from events.tool import ToolCompleted, ToolRefused, ToolRequested, ToolStarted
from tests.system.processes import house
from tests.system.target import acting, counted, one_step, until, writer

ENDS = ("run.succeeded.v1", "run.failed.v1")
CALL_SECONDS = 4
ACK_WAIT_SECONDS = 2


def epoch(records: list[Record], number: int) -> Record | None:
    return next((one for one in records if isinstance(one.fact, ToolStarted) and one.fact.epoch == number), None)


def refused(records: list[Record]) -> bool:
    return any(isinstance(one.fact, ToolRefused) for one in records)


async def counts(what: str, folder: Path, *, seconds: float = CALL_SECONDS) -> None:
    """Wait until the target was asked, or has answered, once."""
    assert await becomes_true(lambda: counted(folder)[what] == 1, within_seconds=seconds + 5)


async def two_lost_workers(folder: Path, *, seconds: float, ack_wait_seconds: float = 0) -> list[Record]:
    """A keyed call of `seconds`: its worker sleeps through it and wakes when the answer is there, the next one is killed then."""
    more = {"CALLBOARD_ACK_WAIT_SECONDS": str(ack_wait_seconds)} if ack_wait_seconds else {}
    async with acting(folder) as settings, house(folder, workers=2, settings=settings | more) as one:
        run = await one.create_run(**one_step(f"1 charge {seconds} a"))
        records = await until(one.nats.url, run, lambda so_far: epoch(so_far, 1))
        first = writer(one.processes, records[-1])
        await counts("asked", folder)
        first.pause()
        records = await until(one.nats.url, run, lambda so_far: epoch(so_far, 2))
        second = writer(one.processes, records[-1])
        assert second is not first
        await counts("answered", folder, seconds=seconds)
        first.wake()
        await until(one.nats.url, run, refused)
        await second.kill()
        return await until(one.nats.url, run, lambda so_far: so_far[-1].type in ENDS, seconds=60 + seconds)


def check_story(records: list[Record], folder: Path) -> None:
    """The log tells three epochs, one late outcome refused, one accepted; the target saw one effect."""
    assert records[-1].type == "run.succeeded.v1"
    begun = next(one.address for one in records if isinstance(one.fact, ToolRequested) and one.fact.effect == "keyed")
    call = [one.fact for one in records if one.address == begun]
    assert [fact.epoch for fact in call if isinstance(fact, ToolStarted)] == [1, 2, 3]
    assert [fact.epoch for fact in call if isinstance(fact, ToolCompleted)] == [3]
    (said,) = [fact for fact in call if isinstance(fact, ToolRefused)]
    assert said.epoch == 1
    assert "stale_epoch" in said.reason
    assert counted(folder, "keyed")["done"] == 1


@pytest.mark.timeout(120)
async def test_a_late_outcome_is_refused_and_the_death_of_the_second_worker_still_ends_the_call(tmp_path: Path) -> None:
    records = await two_lost_workers(tmp_path, seconds=CALL_SECONDS, ack_wait_seconds=ACK_WAIT_SECONDS)
    check_story(records, tmp_path)


@pytest.mark.timeout(120)
async def test_an_unsafe_call_that_was_slept_through_is_never_made_again(tmp_path: Path) -> None:
    more = {"CALLBOARD_ACK_WAIT_SECONDS": str(ACK_WAIT_SECONDS)}
    async with acting(tmp_path) as settings, house(tmp_path, workers=2, settings=settings | more) as one:
        run = await one.create_run(**one_step(f"1 launch {CALL_SECONDS} a"))
        records = await until(one.nats.url, run, lambda so_far: epoch(so_far, 1))
        first = writer(one.processes, records[-1])
        await counts("asked", tmp_path)
        first.pause()
        await until(one.nats.url, run, lambda so_far: so_far[-1].type in ENDS)
        await counts("answered", tmp_path)
        first.wake()
        records = await until(one.nats.url, run, refused)
    begun = next(one.address for one in records if isinstance(one.fact, ToolRequested) and one.fact.effect == "unsafe")
    call = [one.fact for one in records if one.address == begun]
    assert [fact.epoch for fact in call if isinstance(fact, ToolStarted)] == [1]
    assert "outcome_unknown" in [getattr(fact, "code", "") for fact in call]
    assert counted(tmp_path, "unsafe") == {"asked": 1, "done": 1, "answered": 1}
