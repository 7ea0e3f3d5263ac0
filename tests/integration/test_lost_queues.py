"""A work queue that an operator or a fault took away: made again where the oldest unfinished run begins, and nothing is lost."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.queues import Queues
from events.jetstream.unfinished import oldest_unfinished
from gateway.operations import CancelRun
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.test_children import ASKS, asked, begun, spawn, start
from tests.integration.test_turn_rules import hold


class _Info(Answer, frozen=True):
    config: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class _Left(Answer, frozen=True):
    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0


async def begins_at(one: Rig, queue: str) -> int | None:
    info = await ask(one.systems[0].bus, f"CONSUMER.INFO.{CALLBOARD}.{queue}", None, answer=_Info)
    return info.config.get("opt_start_seq")


async def lose(one: Rig, queue: str) -> None:
    await ask(one.systems[0].bus, f"CONSUMER.DELETE.{CALLBOARD}.{queue}", None, answer=Answer)


async def test_queues_lost_in_the_middle_of_a_run_begin_with_it_again_and_it_ends_well(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("list_files")]), b=turns([say("list_files")]))
    async with rig(nats_url, tmp_path, script) as one:
        model = [hold(system) for system in one.systems][1]
        for _ in range(3):
            await one.end(await one.start(step("a")))
        held = await one.start(step("a"), model="held")
        first = (await one.until(held, lambda record: record.type == "model.requested.v1"))[0].seq
        await one.end(await one.start(step("a")))
        queues = ("run", "start-dev", "tool-local")
        for queue in queues:
            await lose(one, queue)
        other = await one.start(step("b"))
        model.go.set()
        for run in (held, other):
            records = await one.end(run)
            assert records[-1].type == "run.succeeded.v1"
            assert len([name for name in types(records) if name.endswith("taken_over")]) <= 1
        for queue in queues:
            assert await begins_at(one, queue) == first


async def test_the_queue_of_runs_lost_before_any_worker_found_it_is_made_again(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        run = await one.start(step("a"))
        await lose(one, "run")
        one.work(0)
        assert (await one.end(run))[-1].type == "run.succeeded.v1"


async def test_notices_of_what_has_ended_come_again_and_each_is_done(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c", wait=False)], ASKS), c=turns())
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        assert (await one.end(child))[-1].type == "run.succeeded.v1"
        await asked(one, run)
        await one.door.cancel_run("default", run, CancelRun(), by="test")
        await one.end(run)
        bus = one.systems[0].bus
        before = await one.systems[0].facts.end()
        await lose(one, "run")
        await Queues(bus).ensure("run", start=1)  # also the child's first notice, whose run was canceled since
        async with asyncio.timeout(30):
            while (left := await ask(bus, f"CONSUMER.INFO.{CALLBOARD}.run", None, answer=_Left)) != _Left():
                assert left.num_redelivered == 0
        assert await one.systems[0].facts.end() == before


async def test_with_no_run_unfinished_a_lost_queue_begins_behind_the_log(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        await one.end(await one.start(step("a")))
        end = await one.systems[0].facts.end()
        assert await oldest_unfinished(one.systems[0].bus) == end + 1
        canceled = await one.start(step("a"))
        await one.door.cancel_run("default", canceled, CancelRun(), by="test")
        await one.end(canceled)
        assert await oldest_unfinished(one.systems[0].bus) == await one.systems[0].facts.end() + 1


async def test_a_queue_that_never_was_begins_with_the_log(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        await one.start(step("a"))
        await Queues(one.systems[0].bus).ensure("start-never")
        assert await begins_at(one, "start-never") is None
