"""What seldom happens, on a real log with real workers: so that no fact is without a run in which it came about."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from actors.decider import TURNS_FAILED_MAX
from actors.model import Answer, Delta, ModelRequest, ToolUse, Usage
from actors.run import StartRun
from events.budget import Budget, BudgetOverdrawn
from events.door import KeyAnswered, KeyClaimed
from events.plan import Gate, Plan
from events.run import RunRequested
from events.subjects import Address, workspace_scope
from events.tool import ApprovalRequested
from gateway.models import Models
from gateway.operations import CreateRun, DecideApproval
from tests.integration.engine import REVIEWER, Rig, cassette, rig, say, step, turns, types
from tests.integration.test_effects import lines
from tests.integration.test_turn_rules import fire_watch, hold, steal
from toolbox.registry import registry
from toolbox.tool import Context, Output, tool


async def asked_of(one: Rig, run: str) -> ApprovalRequested:
    """Wait for the question, and return it."""
    fact = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
    assert isinstance(fact, ApprovalRequested)
    return fact


async def test_a_human_sends_a_failed_gate_back_with_words(nats_url: str, tmp_path: Path) -> None:
    no = say("submit_verdict", passed=False, summary="no", findings=[{"step": "a", "message": "mend it"}])
    first = {"calls": [say("write_file", path="a.txt", content="1")]}
    script = cassette(a=[first, {"calls": [say("finish", summary="done")]}], g=[{"calls": [no]}])
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("g", "a", role=REVIEWER, gate=Gate(rework=("a",), rounds=1)))
        asked = await asked_of(one, run)
        await one.door.decide(
            "default", asked.approval, DecideApproval(decision="respond", comment="try again"), by="ann"
        )
        records = await one.until(run, lambda record: record.type.startswith("gate.reopened"))
        assert b"try again" in records[-1].body


async def test_a_key_is_claimed_and_answered_once(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        request = CreateRun(goal="once")
        first, _ = await one.door.create_run("default", request, by="ann", key="one-key")
        again, replayed = await one.door.create_run("default", request, by="ann", key="one-key")
        assert (again, replayed) == (first, True)
        facts = [record.fact for record in await one.systems[0].facts.load(workspace_scope("default"))]
        assert sum(isinstance(fact, KeyClaimed) for fact in facts) == 1
        assert sum(isinstance(fact, KeyAnswered) for fact in facts) == 1


class Lavish:
    """A model that uses more than anybody thought."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        del request
        use = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"done"}'))
        yield Answer(blocks=(use,), stop="tool_use", usage=Usage(output_tokens=900_000), model="held")


async def test_a_call_that_used_more_than_was_reserved_is_overdrawn(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        for system in one.systems:
            system.models = Models(system.settings, cassette=cassette(a=turns()), held=Lavish())
        run = await one.start(step("a"), model="held", budget=Budget(tokens=200_000))
        records = await one.end(run)
        assert any(isinstance(record.fact, BudgetOverdrawn) for record in records)


async def test_a_model_calls_lost_ticket_is_issued_again(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("ask_human", question="which colour?")]))
    async with rig(nats_url, tmp_path, script, workers=0) as one:
        one.work(0, roles=frozenset({"nobody"}))
        dev = len(one.stops)
        one.work(0, roles=frozenset({"dev"}))
        run = await one.start(step("a"))
        asked = await asked_of(one, run)
        one.stops[dev].set()
        await one.workers[dev]
        await one.door.decide("default", asked.approval, DecideApproval(decision="respond", comment="blue"), by="ann")
        await one.until(run, lambda record: record.type.startswith("tool.completed"))
        await steal(one.systems[0], "agent-dev")
        records = await one.until(run, lambda record: record.type.startswith("tool.completed"))
        await fire_watch(one, run, records)
        records = await one.until(
            run, lambda record: record.type.startswith("model.requested") and b'"turn":2' in record.body
        )
        assert await steal(one.systems[0], "agent-dev") == records[-1].seq
        await fire_watch(one, run, records)
        await one.until(run, lambda record: record.type.startswith("model.reissued"))
        one.work(0, roles=frozenset({"dev"}))
        assert types(await one.end(run))[-1] == "run.succeeded"


async def test_what_a_stopped_workers_model_said_comes_too_late(nats_url: str, tmp_path: Path) -> None:
    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            cassette(a=turns()),
            workers=2,
            urls=[line.url for line in made],
            ack_wait_seconds=1.0,
        ) as one,
    ):
        models = [hold(system) for system in one.systems]
        run = await one.start(step("a"), model="held")
        waits = {asyncio.ensure_future(model.called.wait()): number for number, model in enumerate(models[1:])}
        done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=15)
        for task in rest:
            task.cancel()
        first = waits[done.pop()]
        made[first].moves.clear()
        other = models[2 - first]
        await asyncio.wait_for(other.called.wait(), 20)
        other.go.set()
        await one.until(run, lambda record: record.type.startswith("model.responded"))
        models[first + 1].go.set()
        made[first].moves.set()
        records = await one.until(run, lambda record: record.type.startswith("model.refused"))
        assert types(records).count("model.responded") == 1


async def test_a_run_whose_own_turns_keep_raising_ends_as_a_dead_letter(nats_url: str, tmp_path: Path) -> None:
    """No door lets a step through whose role is not there; the run that has one all the same raises on each turn."""
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        id_ = one.systems[0].clock.new_id("run")
        plan = Plan(steps=(step("a", role="nobody"),))
        request = RunRequested(goal="it cannot", roles={}, tools={}, model="scripted", plan=plan)
        command = StartRun(id=f"cmd_start-{id_}", now_ms=one.systems[0].clock.now_ms(), request=request)
        await one.door.tell(Address("default", id_), command)
        records = await one.end(id_)
        assert types(records).count("run.turn_failed") == TURNS_FAILED_MAX
        assert b"dead_letter" in records[-1].body


@tool(effect="idempotent")
async def unspeakable(ctx: Context) -> Output:
    """Answer with what no log can hold."""
    del ctx
    return Output("here it is", data=object())


async def test_a_call_whose_answer_no_log_can_hold_fails_after_its_turns_have(nats_url: str, tmp_path: Path) -> None:
    tools = {**registry(), "unspeakable": unspeakable}
    async with rig(nats_url, tmp_path, cassette(a=turns([say("unspeakable")])), tools=tools) as one:
        run = await one.start(step("a"))
        records = await one.end(run)
        assert "tool.turn_failed" in types(records)
        assert types(records)[-1] == "run.succeeded"
