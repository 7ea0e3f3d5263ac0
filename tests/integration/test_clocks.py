"""Clocks that lie: machines an hour apart, clocks that jump. Timers fire when the log's server says, once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

from actors.model import Answer, Delta, ModelError, ModelRequest
from events.clock import SystemClock
from events.envelope import Record
from events.tool import ApprovalRequested, ToolFailed
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.test_turn_rules import HeldModel, hold

HOUR_MS = 3_600_000


class SkewedClock(SystemClock):
    """An hour ahead, or behind."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class JumpingClock(SystemClock):
    """Jumps by an hour to and fro each time it is looked at."""

    def __init__(self) -> None:
        self.jumps = itertools.cycle((HOUR_MS, -HOUR_MS, 0))

    def now_ms(self) -> int:
        return super().now_ms() + next(self.jumps)


CLOCKS = (SkewedClock(-HOUR_MS), SkewedClock(HOUR_MS), SkewedClock(-HOUR_MS), JumpingClock())


async def arrivals(one: Rig, run: str) -> tuple[list[Record], dict[str, float]]:
    """Follow a run to its end; return its facts, and when the first of each type arrived, in seconds of this loop."""
    loop = asyncio.get_running_loop()
    first: dict[str, float] = {}

    def note(record: Record) -> bool:
        first.setdefault(record.type, loop.time())
        return record.type.startswith(("run.succeeded", "run.failed"))

    return await one.until(run, note, seconds=30), first


async def test_an_approval_expires_when_it_is_due_whoever_asked_and_whoever_hears_the_timer(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("publish_release", name="a", version="1", include=["*"])]))
    async with rig(nats_url, tmp_path, script, workers=3, clocks=CLOCKS, approval_seconds=2) as one:
        for _ in range(4):
            run = await one.start(step("a"))
            records, first = await arrivals(one, run)
            assert types(records).count("approval.expired") == 1
            assert [record.fact.code for record in records if isinstance(record.fact, ToolFailed)] == ["expired"]
            waited = first["approval.expired.v1"] - first["approval.requested.v1"]
            assert 1.9 < waited < 8
            asked = next(record for record in records if isinstance(record.fact, ApprovalRequested))
            assert abs(asked.time_ms - SystemClock().now_ms()) < 60_000


class Overloaded(HeldModel):
    """A model that is overloaded at the first call and says how long to wait."""

    shared = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        Overloaded.shared += 1
        if Overloaded.shared == 1:
            raise ModelError("come again later", kind="retry_after", code="overloaded", retry_after_seconds=2)
        self.go.set()
        async for each in super().stream(request):
            yield each


async def test_a_wait_before_the_next_try_is_as_long_as_it_was_told_on_any_worker(
    nats_url: str, tmp_path: Path
) -> None:
    Overloaded.shared = 0
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=3, clocks=CLOCKS) as one:
        for system in one.systems:
            hold(system, Overloaded())
        records, first = await arrivals(one, await one.start(step("a"), model="held"))
        assert records[-1].type == "run.succeeded.v1"
        assert types(records).count("model.failed") == 1
        assert 1.9 < first["model.responded.v1"] - first["model.failed.v1"] < 8


async def test_facts_are_stamped_by_one_clock(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("list_files")]), b=turns([say("list_files")]))
    async with rig(nats_url, tmp_path, script, workers=3, clocks=CLOCKS) as one:
        began = SystemClock().now_ms()
        records = await one.end(await one.start(step("a"), step("b", "a")))
        stamps = [record.time_ms for record in records]
        assert began - 1000 < min(stamps)
        assert max(stamps) < SystemClock().now_ms() + 1000
