"""Runs under runs on a real log: begun once, awaited or not, stopped and paused with the run above, and never longer than it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.agent import AGENT
from actors.decider import fold
from actors.run_children import child_id
from events.agent import AgentChildEnded, FromChild, ModelRequested
from events.envelope import Record
from events.plan import Plan, PlanStep
from events.run import Limits, RunChildEnded, RunChildRequested, RunRequested
from events.tool import ApprovalRequested, ToolCompleted, ToolFailed, ToolRequested, ToolWaiting
from gateway.blueprint import BlueprintDefinition, RoleFile
from gateway.children import Children
from gateway.errors import Problem
from gateway.operations import CancelRun, CreateRun, DecideApproval
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.test_stops import until
from tests.integration.test_turn_rules import fire_watch, steal

TOOLS = ("spawn", "ask_human", "write_file", "read_file", "list_files", "finish")
WHY = CancelRun(reason="enough", by="ann")


async def start(one: Rig, *steps: PlanStep, **more: Any) -> str:
    """Begin a run whose roles may begin others."""
    roles = (RoleFile("dev", "does it all", "Do it.", tools=TOOLS),)
    definition = BlueprintDefinition(name="test", steps=steps, roles=roles)
    accepted, _ = await one.door.create_run("default", CreateRun(goal="test", definition=definition, **more), by="test")
    return accepted.id


def spawn(*keys: str, **more: Any) -> dict[str, Any]:
    """Return a call that begins a run with a step of each key."""
    plan = [{"id": key, "role": "dev", "task": f"do {key}"} for key in keys]
    return say("spawn", goal=f"the goal of {keys[0]}", steps=plan, **more)


def facts(records: list[Record], type_: type[Any]) -> list[Any]:
    return [record.fact for record in records if isinstance(record.fact, type_)]


def child_of(records: list[Record], place: int = 0) -> str:
    return str(facts(records, RunChildRequested)[place].child)


async def test_a_call_waits_for_the_run_it_began_and_takes_its_result_and_files(nats_url: str, tmp_path: Path) -> None:
    script = cassette(
        a=turns([say("write_file", path="mine.txt", content="1")], [spawn("c")], [say("read_file", path="theirs.txt")]),
        c=turns(
            [say("read_file", path="mine.txt")],
            [say("write_file", path="theirs.txt", content="2"), say("write_file", path="mine.txt", content="3")],
        ),
    )
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        (call,) = [
            record for record in records if isinstance(record.fact, ToolRequested) and record.fact.tool == "spawn"
        ]
        child = child_of(records)
        assert child == child_id(call.address.call)
        under = await one.end(child)
        first, last = under[0], under[-1]
        assert isinstance(first.fact, RunRequested)
        parent = first.fact.parent
        assert parent is not None
        assert (parent.run, parent.step, parent.call, parent.depth) == (run, call.address.step, call.address.call, 1)
        assert set(first.fact.files) == {"mine.txt"}
        assert [fact.child for fact in facts(records, ToolWaiting)] == [child]
        (ended,) = facts(records, RunChildEnded)
        assert (ended.child, ended.seq, ended.status) == (child, last.seq, "succeeded")
        (answer,) = [fact for fact in facts(records, ToolCompleted) if fact.child]
        assert set(answer.changes) == {"mine.txt", "theirs.txt"}
        assert (answer.data["run"], answer.data["status"], answer.data["summary"]) == (child, "succeeded", "done")
        state = await one.door.run_state("default", run)
        assert set(state.head) == {"mine.txt", "theirs.txt"}


ASKS = [say("ask_human", question="go on?")]


async def asked(one: Rig, run: str) -> str:
    """Wait until a run asks its human, and return the approval."""
    records = await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
    return str(facts(records, ApprovalRequested)[-1].approval)


async def respond(one: Rig, approval: str) -> None:
    await one.door.decide("default", approval, DecideApproval(decision="respond", comment="yes"), by="ann")


async def begun(one: Rig, run: str, place: int = 0) -> str:
    """Wait until a run has asked for one under it, and return that one once it is there."""
    child = child_of(await until(one, run, "run.child_requested", place + 1), place)
    await until(one, child, "run.requested")
    return child


async def test_a_result_that_nobody_waits_for_comes_once_into_the_next_model_call(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([spawn("c", wait=False)], ASKS, [say("list_files")]), c=turns())
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        approval = await asked(one, run)
        await until(one, run, "agent.child_ended")
        await respond(one, approval)
        records = await one.end(run)
        told = [fact.turn for fact in facts(records, ModelRequested) if FromChild(child) in fact.takes]
        assert told == [3]
        assert types(records).count("run.child_ended") == types(records).count("agent.child_ended") == 1
        assert [fact.text for fact in facts(records, AgentChildEnded)] == [f"Run {child} succeeded: done"]


async def test_a_run_does_not_succeed_before_the_runs_under_it_have_ended(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c", wait=False)]), c=turns(ASKS))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        approval = await asked(one, child)
        seen = await until(one, run, "step.succeeded")
        assert "run.succeeded" not in types(seen)
        await respond(one, approval)
        assert types(await one.end(run))[-2:] == ["run.child_ended", "run.succeeded"]


async def test_a_run_that_fails_is_read_by_the_model_and_its_caller_goes_on(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([spawn("unscripted")]))) as one:
        run = await start(one, step("a"))
        records = await one.end(run)
        (failed,) = facts(records, ToolFailed)
        assert failed.code == "child_failed"
        assert "cassette has no answer" in failed.reason
        assert types(records)[-1] == "run.succeeded"


async def test_a_run_that_is_canceled_by_itself_ends_the_call_that_waits_and_no_more(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([spawn("c")]), c=turns(ASKS))) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        await asked(one, child)
        await one.door.cancel_run("default", child, WHY, by="test")
        records = await one.end(run)
        assert [(fact.code, fact.reason[-6:]) for fact in facts(records, ToolFailed)] == [("child_canceled", "enough")]
        assert types(records)[-1] == "run.succeeded"


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
async def test_a_stopped_run_stops_all_under_it_to_any_depth(nats_url: str, tmp_path: Path, verb: str) -> None:
    script = cassette(a=turns([spawn("c")]), c=turns([spawn("d", wait=False)], ASKS), d=turns(ASKS))
    async with rig(nats_url, tmp_path, script, workers=2) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        grandchild = await begun(one, child)
        await asked(one, child)
        await asked(one, grandchild)
        await getattr(one.door, f"{verb}_run")("default", run, WHY, by="test")
        ends = [(await one.end(each, seconds=15))[-1] for each in (grandchild, child, run)]
        assert {end.type for end in ends} == {"run.canceled.v1"}
        if verb == "cancel":
            assert [end.seq for end in ends] == sorted(end.seq for end in ends)


async def test_a_run_that_fails_cancels_the_runs_under_it_first(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c", wait=False)]), c=turns(ASKS), b=turns(ASKS))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"), step("b"), step("unscripted", "b"))
        child = await begun(one, run)
        await asked(one, child)
        await respond(one, await asked(one, run))
        end = (await one.end(child))[-1]
        last = (await one.end(run))[-1]
        assert (end.type, last.type) == ("run.canceled.v1", "run.failed.v1")
        assert end.seq < last.seq


async def test_pause_and_resume_flow_down(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c")]), c=turns(ASKS))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        child = await begun(one, run)
        approval = await asked(one, child)
        await one.door.pause_run("default", run, WHY, by="test")
        await until(one, child, "agent.paused")
        await respond(one, approval)
        await until(one, child, "tool.completed")
        await one.door.resume_run("default", run, WHY, by="test")
        under = await one.end(child)
        assert types(under)[-1] == "run.succeeded"
        assert "model.requested" not in _between(types(under), "agent.paused", "agent.resumed")
        assert types(await one.end(run))[-1] == "run.succeeded"


def _between(names: list[str], first: str, last: str) -> list[str]:
    return names[names.index(first) : names.index(last)]


async def test_a_run_begun_under_a_paused_one_is_paused_before_it_starts_a_step(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(c=turns()), workers=0) as one:
        run = await start(one, step("a"))
        await one.door.pause_run("default", run, WHY, by="test")
        plan = Plan(steps=(PlanStep(id="c", role="dev", task="do c"),))
        under = await Children(one.systems[0]).begin("default", run, CreateRun(goal="g", plan=plan), child="run_under")
        one.work(0)
        seen = await until(one, under.id, "run.paused")
        assert "step.started" not in types(seen)
        await one.door.cancel_run("default", run, WHY, by="test")
        assert types(await one.end(under.id))[-1] == "run.canceled"
        assert types(await one.end(run))[-1] == "run.canceled"


async def test_depth_and_number_are_limited_by_errors_that_the_model_reads(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c")], [spawn("d")]), c=turns([spawn("e")]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"), limits=Limits(depth_max=1, children_max=1))
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        assert [fact.code for fact in facts(records, ToolFailed)] == ["children_max"]
        under = await one.end(child_of(records))
        assert [fact.code for fact in facts(under, ToolFailed)] == ["depth_max"]
        assert facts(under, ToolFailed)[0].reason.startswith("limits.depth_max: at most 1")


async def test_a_plan_that_breaks_a_rule_is_a_tool_error_and_begins_nothing(nats_url: str, tmp_path: Path) -> None:
    bad = say("spawn", goal="g", steps=[{"id": "c", "role": "nobody", "task": "t"}])
    twice = say("spawn", goal="g", blueprint="software", steps=[{"id": "c", "role": "dev", "task": "t"}])
    unknown = say("spawn", goal="g", blueprint="nothing")
    async with rig(nats_url, tmp_path, cassette(a=turns([bad, twice, unknown]))) as one:
        records = await one.end(await start(one, step("a")))
        codes = {fact.code for fact in facts(records, ToolFailed)}
        assert codes == {"invalid_request", "bad_arguments", "unknown_blueprint"}
        assert "run.child_requested" not in types(records)


async def test_two_runs_that_change_one_path_leave_the_first_and_tell_of_the_second(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(
        a=turns([spawn("c"), spawn("d")]),
        c=turns([say("write_file", path="same.txt", content="c")]),
        d=turns([say("write_file", path="same.txt", content="d")]),
    )
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"))
        records = await one.end(run)
        actor = next(record.address for record in records if record.address.kind == "agent")
        agent = fold(AGENT, actor, await one.systems[0].facts.load(actor.scope))
        torn = [call for call in agent.calls.values() if call.torn]
        assert [call.torn for call in torn] == [("same.txt",)]
        assert "same.txt" in torn[0].text
        assert set((await one.door.run_state("default", run)).head) == {"same.txt"}


async def test_one_slot_is_enough_for_a_run_that_waits_for_another(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([spawn("c")]), c=turns()), max_agents=1) as one:
        run = await start(one, step("a"))
        assert types(await one.end(run))[-1] == "run.succeeded"


async def test_what_was_decided_before_a_crash_is_handed_over_by_the_next_worker(nats_url: str, tmp_path: Path) -> None:
    """A door stores facts and makes no hand-overs: just as a worker that dies after its append."""
    async with rig(nats_url, tmp_path, cassette(a=turns(ASKS), c=turns(ASKS)), workers=0) as one:
        run = await start(one, step("a"))
        plan = Plan(steps=(PlanStep(id="c", role="dev", task="do c"),))
        request = CreateRun(goal="under", plan=plan)
        children = Children(one.systems[0])
        first = await children.begin("default", run, request, child="run_under")
        again = await children.begin("default", run, request, child="run_under")
        assert first.id == again.id
        one.work(0)
        await asked(one, "run_under")
        one.workers[0].cancel()
        await one.door.terminate_run("default", "run_under", WHY, by="test")
        one.work(0)
        await until(one, run, "run.child_ended")
        await respond(one, await asked(one, run))
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        assert types(records).count("run.child_requested") == types(records).count("run.child_ended") == 1


async def test_the_watch_brings_the_end_of_a_run_whose_word_was_lost(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([spawn("c")]), c=turns(ASKS)), workers=0) as one:
        door = one.systems[0]
        one.work(0)
        run = await start(one, step("a"))
        child = await begun(one, run)
        await asked(one, child)
        one.workers[0].cancel()
        await asyncio.wait(one.workers)
        await one.door.terminate_run("default", child, WHY, by="test")
        await steal(door, "run")
        one.work(0)
        await fire_watch(one, run, await until(one, run, "tool.waiting"))
        records = await one.end(run)
        assert types(records).count("run.child_ended") == 1
        assert types(records)[-1] == "run.succeeded"


async def test_a_worker_that_dies_in_a_spawn_leaves_one_run(nats_url: str, tmp_path: Path) -> None:
    """The first worker dies after the run above has decided, before its call knows: the second finds the run it began."""
    async with rig(
        nats_url, tmp_path, cassette(a=turns([spawn("c")]), c=turns()), workers=2, ack_wait_seconds=1.0
    ) as one:
        run = await start(one, step("a"))
        await until(one, run, "run.child_requested")
        one.workers[0].cancel()
        records = await one.end(run)
        assert types(records).count("run.child_requested") == 1
        assert types(records)[-1] == "run.succeeded"


async def test_nothing_begins_under_a_run_that_has_ended(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        run = await start(one, step("a"))
        await one.end(run)
        with pytest.raises(Problem) as late:
            await Children(one.systems[0]).begin("default", run, CreateRun(goal="g"), child="run_under")
        assert (late.value.status, late.value.code) == (409, "run_ended")
