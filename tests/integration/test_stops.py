"""Pausing, resuming and stopping runs on a real log, with workers that perform and die."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors.cassette import Cassette
from actors.model import Answer, Delta, ModelError, ModelRequest, ToolUse, Usage
from events.envelope import Record
from events.tool import ApprovalRequested
from gateway.errors import Problem
from gateway.models import Models
from gateway.operations import CancelRun
from gateway.system import System
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.test_turn_rules import fire_watch

ASKS = frozenset({"model.requested", "tool.requested", "step.started", "agent.requested"})
WHY = CancelRun(reason="a look", by="ann")


class Provider:
    """A model whose answers wait until they are let go; it counts its calls and tells how many streams are open."""

    def __init__(self, fault: ModelError | None = None) -> None:
        self.calls = 0
        self.open = 0
        self.moved = asyncio.Condition()
        self.go = asyncio.Event()
        self.fault = fault

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        await self._move(1)
        try:
            if self.fault is not None:
                raise self.fault
            await self.go.wait()
            use = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"held and let go"}'))
            yield Answer(blocks=(use,), stop="tool_use", usage=Usage(output_tokens=1), model="held")
        finally:
            await self._move(-1)

    async def _move(self, by: int) -> None:
        async with self.moved:
            self.calls += max(by, 0)
            self.open += by
            self.moved.notify_all()

    async def until_open(self, count: int, *, seconds: float = 30) -> None:
        """Wait until `count` streams are open."""
        async with self.moved:
            await asyncio.wait_for(self.moved.wait_for(lambda: self.open == count), seconds)


def give(systems: list[System], model: Provider) -> None:
    """Let all systems call one provider, under the name `held`."""
    script = Cassette.from_dict({"steps": [{"turns": [{"say": "-"}]}]})
    for system in systems:
        system.models = Models(system.settings, cassette=script, held=model)


async def until(one: Rig, run: str, name: str, count: int = 1) -> list[Record]:
    """Follow a run until a fact of a name came for the `count`th time."""
    seen = 0

    def found(record: Record) -> bool:
        nonlocal seen
        seen += record.type.removesuffix(".v1") == name
        return seen == count

    return await one.until(run, found)


def after(records: list[Record], name: str, *, count: int = 1) -> list[str]:
    """Return the types of what came behind the `count`th fact of a name."""
    names = types(records)
    places = [place for place, each in enumerate(names) if each == name]
    return names[places[count - 1] + 1 :]


async def test_three_agents_pause_in_the_middle_a_worker_dies_and_the_resumed_run_ends_with_each_call_made_once(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=2, ack_wait_seconds=1.0) as one:
        model = Provider()
        give(one.systems, model)
        run = await one.start(step("a"), step("b"), step("c"), step("d", "a"), model="held")
        await model.until_open(3)
        await one.door.pause_run("default", run, WHY, by="test")
        await one.door.pause_run("default", run, WHY, by="test")
        await until(one, run, "agent.paused", 3)
        model.go.set()
        paused = await until(one, run, "model.responded", 3)
        await fire_watch(one, run, paused)
        paused = await until(one, run, "timer.set", 2)
        one.workers[0].cancel()
        assert not ASKS & set(after(paused, "agent.paused", count=3))
        state = await one.door.run_state("default", run)
        assert state.paused is not None
        await one.door.resume_run("default", run, WHY, by="test")
        records = await one.end(run)
        names = types(records)
        assert names[-1] == "run.succeeded"
        assert names.count("run.paused") == names.count("run.resumed") == 1
        assert names.count("agent.paused") == names.count("agent.resumed") == 3
        assert (names.count("model.requested"), model.calls) == (4, 4)
        assert not {"agent.reissued", "model.reissued", "tool.reissued"} & set(names)
        with pytest.raises(Problem) as late:
            await one.door.pause_run("default", run, WHY, by="test")
        assert (late.value.status, late.value.code) == (409, "run_ended")


async def test_the_call_in_flight_of_a_worker_that_dies_while_the_run_is_paused_is_taken_over_and_nothing_else_happens(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=2, ack_wait_seconds=1.0) as one:
        first, second = Provider(), Provider()
        give(one.systems[:2], first)
        give(one.systems[2:], second)
        run = await one.start(step("a"), model="held")
        performer, other = await _who_called(first, second)
        await one.door.pause_run("default", run, WHY, by="test")
        await until(one, run, "agent.paused")
        one.workers[0 if performer is first else 1].cancel()
        await other.until_open(1)
        other.go.set()
        paused = await until(one, run, "model.responded")
        assert after(paused, "agent.paused") == ["model.taken_over", "model.responded"]
        await one.door.resume_run("default", run, WHY, by="test")
        assert (await one.end(run))[-1].type == "run.succeeded.v1"


async def _who_called(first: Provider, second: Provider) -> tuple[Provider, Provider]:
    waits = {asyncio.ensure_future(each.until_open(1)): each for each in (first, second)}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    called = waits[done.pop()]
    return called, second if called is first else first


async def test_a_run_paused_before_a_worker_took_it_up_waits_for_its_resume(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        run = await one.start(step("a"))
        await one.door.pause_run("default", run, WHY, by="test")
        one.work(0)
        seen = await until(one, run, "timer.set")
        assert "step.started" not in types(seen)
        await one.door.resume_run("default", run, WHY, by="test")
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        assert "step.started" in after(records, "run.resumed")


async def test_an_agent_that_begins_in_a_paused_or_canceled_run_hears_of_it_before_it_asks_anything(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        door = one.systems[0]
        for queue in ("start-dev", "run"):
            await door.queues.ensure(queue)
        one.work(0, roles=frozenset({"nobody"}))
        runs = [await one.start(step("a")) for _ in range(2)]
        for run in runs:
            await until(one, run, "agent.requested")
        await one.door.pause_run("default", runs[0], WHY, by="test")
        await one.door.terminate_run("default", runs[1], WHY, by="test")
        one.work(0, roles=frozenset({"dev"}))
        paused = await until(one, runs[0], "agent.paused")
        canceled = await until(one, runs[1], "agent.canceled")
        assert "model.requested" not in types(paused) + types(canceled)
        await one.door.resume_run("default", runs[0], WHY, by="test")
        assert types(await one.end(runs[0]))[-1] == "run.succeeded"


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
async def test_a_run_stopped_in_a_model_call_of_ten_minutes_ends_at_once_and_the_stream_is_closed(
    nats_url: str, tmp_path: Path, verb: str
) -> None:
    """With a minute between heartbeats only the cancel's own turn can stop the call of its worker."""
    async with rig(nats_url, tmp_path, cassette(a=turns()), ack_wait_seconds=180.0) as one:
        model = Provider()
        give(one.systems, model)
        run = await one.start(step("a"), model="held")
        await model.until_open(1)
        began = time.monotonic()
        await getattr(one.door, f"{verb}_run")("default", run, WHY, by="test")
        await model.until_open(0, seconds=10)
        records = await one.end(run, seconds=10)
        assert time.monotonic() - began < 10
        assert types(records)[-1] == "run.canceled"
        await until(one, run, "agent.canceled")


async def test_a_call_of_another_worker_is_stopped_by_its_heartbeat(nats_url: str, tmp_path: Path) -> None:
    """Five of six workers have no role: nearly every cancel is worked on by one that does not perform the call."""
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        model = Provider()
        give(one.systems, model)
        for roles in ("dev", "none", "none", "none", "none", "none"):
            one.work(0, roles=frozenset({roles}))
        runs = [await one.start(step("a"), model="held") for _ in range(6)]
        await model.until_open(6)
        for run in runs:
            await one.door.cancel_run("default", run, WHY, by="test")
        await model.until_open(0, seconds=10)
        for run in runs:
            assert types(await one.end(run))[-1] == "run.canceled"


async def test_a_run_canceled_while_it_is_paused_ends(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        model = Provider()
        give(one.systems, model)
        run = await one.start(step("a"), model="held")
        await model.until_open(1)
        await one.door.pause_run("default", run, WHY, by="test")
        await until(one, run, "agent.paused")
        await one.door.cancel_run("default", run, WHY, by="test")
        records = await one.end(run, seconds=9)
        assert types(records)[-3:] == ["agent.canceled", "step.canceled", "run.canceled"]
        await model.until_open(0)


async def test_a_run_canceled_while_a_human_is_asked_ends_and_its_approval_with_it(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("publish_release", name="a", version="1", include=["*"])]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
        await one.door.cancel_run("default", run, WHY, by="test")
        names = types(await one.end(run, seconds=9))
        assert names[-4:] == ["tool.canceled", "agent.canceled", "step.canceled", "run.canceled"]


async def test_a_run_canceled_while_a_model_call_backs_off_ends(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        give(one.systems, Provider(ModelError("busy", kind="retry_after", code="overloaded", retry_after_seconds=600)))
        run = await one.start(step("a"), model="held")
        await until(one, run, "model.failed")
        await one.door.cancel_run("default", run, WHY, by="test")
        assert types(await one.end(run, seconds=9))[-1] == "run.canceled"
