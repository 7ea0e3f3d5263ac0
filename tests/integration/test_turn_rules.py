"""The rules of the turn on a real log: takeover, lost tickets, held tickets, and results that come too late."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from actors.model import Answer, Delta, ModelRequest, ToolUse, Usage
from events.agent import ModelRefused, ModelResponded
from events.envelope import Record
from events.jetstream.api import CALLBOARD
from events.jetstream.queues import Delivery, Pull
from events.run import TimerSet
from events.subjects import Address
from gateway.models import Models
from gateway.system import System
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.lines import lines

ACK_WAIT = 1.0


class HeldModel:
    """A model that answers `finish`, each time only when the test lets it; it counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        self.calls += 1
        self.called.set()
        await self.go.wait()
        use = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"held and let go"}'))
        yield Answer(blocks=(use,), stop="tool_use", usage=Usage(output_tokens=1), model="held")


def hold(system: System, model: HeldModel | None = None) -> HeldModel:
    """Give a system a model that waits, or one of the test's own, and return it."""
    model = model or HeldModel()
    system.models = Models(system.settings, cassette=system.models.cassette, held=model)
    return model


async def steal(system: System, queue: str) -> int:
    """Take the next notice of a queue and ack it without working on it, as a faulty operator might; return its sequence."""
    taken: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    pull = Pull(system.bus, CALLBOARD, queue, deliver=taken.set_result, free=lambda: 0 if taken.done() else 1)
    await pull.start()
    delivery = await asyncio.wait_for(taken, 10)
    await pull.stop()
    await delivery.ack_sync()
    return delivery.seq


async def fire_watch(one: Rig, run: str, records: list[Record]) -> None:
    """Send the run the timer that its watch has set, as the server will when it is due."""
    timer = next(record.fact for record in reversed(records) if isinstance(record.fact, TimerSet))
    body = msgspec.json.encode({"id": f"cmd_fired-{len(records)}", "timer": timer.timer})
    await one.systems[0].inbox.send(Address("default", run), "timer", body, command_id=f"cmd_fired-{len(records)}")


async def test_a_killed_workers_call_is_taken_over_and_its_late_answer_is_refused(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=2, ack_wait_seconds=ACK_WAIT) as one:
        models = [hold(system) for system in one.systems]
        run = await one.start(step("a"), model="held")
        first = await _whoever_calls(models[1:])
        number = models.index(first)
        worker = one.workers[number - 1]
        worker.cancel()
        other = models[3 - number]
        await asyncio.wait_for(other.called.wait(), 15)
        other.go.set()
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert types(records).count("model.responded") == 1
        assert types(records).count("model.taken_over") == 1
        assert (first.calls, other.calls) == (1, 1)


async def test_a_late_answer_of_a_stopped_worker_is_refused_and_the_second_ones_stands(
    nats_url: str, tmp_path: Path
) -> None:
    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            cassette(a=turns()),
            workers=2,
            urls=[line.url for line in made],
            ack_wait_seconds=ACK_WAIT,
        ) as one,
    ):
        models = [hold(system) for system in one.systems]
        run = await one.start(step("a"), model="held")
        first = await _whoever_calls(models[1:])
        number = models.index(first)
        made[number - 1].moves.clear()
        other = models[3 - number]
        await asyncio.wait_for(other.called.wait(), 20)
        first.go.set()
        made[number - 1].moves.set()
        late = (await one.until(run, lambda record: isinstance(record.fact, ModelRefused)))[-1]
        assert late.fact == ModelRefused(turn=1, epoch=1, reason="stale_epoch: epoch 2 performs it now")
        other.go.set()
        records = await one.end(run)
        answers = [record.fact for record in records if isinstance(record.fact, ModelResponded)]
        assert [answer.epoch for answer in answers] == [2]
        assert records[-1].type == "run.succeeded.v1"


async def test_a_long_call_of_a_living_worker_is_never_taken_over(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=2, ack_wait_seconds=ACK_WAIT) as one:
        models = [hold(system) for system in one.systems]
        run = await one.start(step("a"), model="held")
        performer = await _whoever_calls(models[1:])
        for _ in range(4):
            await asyncio.wait_for(_beat(one.systems[0]), 10)
        performer.go.set()
        records = await one.end(run)
        assert "model.taken_over" not in types(records)
        assert sum(model.calls for model in models) == 1


async def _beat(system: System) -> None:
    """Wait until some worker tells the server that it still works on a notice."""
    seen = asyncio.Event()

    def note(message: object) -> None:
        if getattr(message, "body", b"") == b"+WPI":
            seen.set()

    subscription = await system.bus.subscribe("$JS.ACK.>", note)
    await seen.wait()
    await subscription.unsubscribe()


async def _whoever_calls(models: list[HeldModel]) -> HeldModel:
    waits = {asyncio.ensure_future(model.called.wait()): model for model in models}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=15)
    for task in rest:
        task.cancel()
    return waits[done.pop()]


async def test_lost_tickets_of_start_and_call_are_found_by_the_watch_and_nothing_else_is_reissued(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("list_files")]))
    async with rig(nats_url, tmp_path, script, workers=0) as one:
        door = one.systems[0]
        for queue in ("start-dev", "run"):
            await door.queues.ensure(queue)
        one.work(0, roles=frozenset({"nobody"}))
        run = await one.start(step("a"))
        records = await one.until(run, lambda record: record.type == "agent.requested.v1")
        await steal(door, "start-dev")
        one.work(0, roles=frozenset({"dev"}))
        await fire_watch(one, run, records)
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert types(records).count("agent.reissued") == 1
        assert types(records).count("model.requested") == 2
