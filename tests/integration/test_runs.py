"""How runs go on a real log: parallel files, conflicts, approvals, cancels, gates, and what is asked of a human."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from events.agent import AgentSucceeded
from events.plan import Gate
from events.run import RunFailed, StepConflicted, StepStarted
from events.tool import ApprovalRequested, ToolFailed
from gateway.errors import Problem
from gateway.operations import CancelRun, CreateRun, DecideApproval
from tests.integration.engine import REVIEWER, cassette, rig, say, step, turns, types


async def test_two_steps_in_parallel_write_files_and_both_sets_are_there(nats_url: str, tmp_path: Path) -> None:
    script = cassette(
        a=turns([say("write_file", path="a/one.txt", content="1")], [say("write_file", path="a/two.txt", content="2")]),
        b=turns([say("write_file", path="b/one.txt", content="3")]),
    )
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("b"))
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        state = await one.door.run_state("default", run)
        assert set(state.head) == {"a/one.txt", "a/two.txt", "b/one.txt"}


async def test_when_two_steps_change_one_path_the_second_reworks_it_with_the_conflict_as_its_finding(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(
        a=turns([say("write_file", path="same.txt", content="a")]),
        b=[
            {"calls": [say("read_file", path="same.txt"), say("write_file", path="same.txt", content="b")]},
            {"calls": [say("write_file", path="same.txt", content="b")]},
            {"calls": [say("finish", summary="done")]},
        ],
    )
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("b"))
        records = await one.end(run)
        conflicts = [record.fact for record in records if isinstance(record.fact, StepConflicted)]
        assert [conflict.paths for conflict in conflicts] == [("same.txt",)]
        started = [record.fact for record in records if isinstance(record.fact, StepStarted)]
        assert [(each.attempt, each.conflicts) for each in started][-1] == (2, ("same.txt",))
        assert records[-1].type == "run.succeeded.v1"


async def test_a_risky_call_waits_the_first_decision_wins_and_the_second_gets_the_first(
    nats_url: str, tmp_path: Path
) -> None:
    release = say("publish_release", name="a", version="1", include=["*.txt"])
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")], [release]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        records = await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
        asked = records[-1].fact
        assert isinstance(asked, ApprovalRequested)
        approve = DecideApproval(decision="approve", digest=asked.digest)
        first, second = await asyncio.gather(
            one.door.decide("default", asked.approval, approve, by="ann"),
            one.door.decide("default", asked.approval, DecideApproval(decision="reject"), by="bob"),
            return_exceptions=True,
        )
        problems = [each for each in (first, second) if isinstance(each, Problem)]
        assert [problem.status for problem in problems] == [409]
        assert problems[0].recorded["by"] in ("ann", "bob")
        records = await one.end(run) if not isinstance(first, Problem) else records
        assert types(records).count("approval.decided") <= 1


async def test_a_rejected_call_is_read_by_the_model_and_the_run_goes_on(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("publish_release", name="a", version="1", include=["*"])]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
        assert isinstance(asked, ApprovalRequested)
        await one.door.decide("default", asked.approval, DecideApproval(decision="reject", comment="not yet"), by="ann")
        records = await one.end(run)
        failures = [record.fact for record in records if isinstance(record.fact, ToolFailed)]
        assert [failure.reason for failure in failures] == ["ann rejected this call: not yet"]
        assert records[-1].type == "run.succeeded.v1"


async def test_an_edit_that_the_tool_cannot_take_is_refused_and_spends_no_decision(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("publish_release", name="a", version="1", include=["*"])]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
        assert isinstance(asked, ApprovalRequested)
        edit = DecideApproval(decision="edit", arguments={"name": 3, "version": "1", "include": ["*"]})
        with pytest.raises(Problem) as refused:
            await one.door.decide("default", asked.approval, edit, by="ann")
        assert (refused.value.status, refused.value.errors[0].pointer) == (422, "/arguments")
        assert "name: Expected `str`, got `int`" in str(refused.value)
        mended = DecideApproval(decision="edit", arguments={"name": "b", "version": "1", "include": ["*"]})
        assert (await one.door.decide("default", asked.approval, mended, by="ann")).decision == "edit"
        assert (await one.end(run))[-1].type == "run.succeeded.v1"


async def test_an_approval_expires_by_its_timer(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("publish_release", name="a", version="1", include=["*"])]))
    async with rig(nats_url, tmp_path, script, approval_seconds=1) as one:
        run = await one.start(step("a"))
        records = await one.end(run)
        failures = [record.fact for record in records if isinstance(record.fact, ToolFailed)]
        assert [failure.code for failure in failures] == ["expired"]
        asked = next(record.fact for record in records if isinstance(record.fact, ApprovalRequested))
        with pytest.raises(Problem) as late:
            await one.door.decide("default", asked.approval, DecideApproval(decision="approve"), by="ann")
        assert (late.value.status, late.value.code) == (409, "expired")


async def test_a_cancel_stops_a_running_command(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("run_command", argv=["sleep", "50"], seconds=55)]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        await one.until(run, lambda record: record.type == "tool.requested.v1")
        await one.door.cancel_run("default", run, CancelRun(reason="enough"), by="ann")
        records = await one.end(run, seconds=15)
        assert records[-1].type == "run.canceled.v1"
        assert {"tool.canceled", "agent.canceled", "step.canceled"} <= set(types(records))
        await one.door.cancel_run("default", run, CancelRun(), by="ann")
    assert not any("sleep" in line for line in await _processes())


async def _processes() -> list[str]:
    listing = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=asyncio.subprocess.PIPE)
    out, _ = await listing.communicate()
    return [line for line in out.decode().splitlines() if line.startswith("sleep 50")]


async def test_a_gate_that_keeps_failing_asks_a_human_who_waives_it(nats_url: str, tmp_path: Path) -> None:
    verdict = say("submit_verdict", passed=False, summary="no", findings=[{"step": "a", "message": "mend it"}])
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")]), g=[{"calls": [verdict]}])
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("g", "a", role=REVIEWER, gate=Gate(rework=("a",), rounds=1)))
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
        assert isinstance(asked, ApprovalRequested)
        assert asked.kind == "gate"
        assert msgspec.json.decode(asked.arguments)["findings"] == ["a: mend it"]
        await one.door.decide("default", asked.approval, DecideApproval(decision="approve", comment="fine"), by="ann")
        records = await one.end(run)
        assert types(records)[-2:] == ["gate.waived", "run.succeeded"]
        assert types(records).count("gate.failed") == 2


async def test_a_question_is_answered_by_a_human_and_the_model_reads_it(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([say("ask_human", question="which colour?")]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
        assert isinstance(asked, ApprovalRequested)
        await one.door.decide("default", asked.approval, DecideApproval(decision="respond", comment="blue"), by="ann")
        records = await one.end(run)
        assert any(record.type == "tool.completed.v1" and b'"blue"' in record.body for record in records)


async def test_a_goal_alone_is_planned_by_a_planner(nats_url: str, tmp_path: Path) -> None:
    plan = [{"id": "only", "role": "backend-engineer", "task": "do it"}]
    script = cassette(planner=[{"calls": [say("submit_plan", steps=plan)]}], only=turns())
    async with rig(nats_url, tmp_path, script) as one:
        accepted, _ = await one.door.create_run("default", CreateRun(goal="anything"), by="test")
        records = await one.end(accepted.id)
        assert "plan.accepted" in types(records)
        ended = [record.fact for record in records if isinstance(record.fact, AgentSucceeded)]
        assert len(ended) == 2
        assert records[-1].type == "run.succeeded.v1"


async def test_without_a_key_a_run_fails_at_once_and_says_what_to_do(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        run = await one.start(step("a"), model="anthropic")
        end = (await one.end(run))[-1].fact
        assert isinstance(end, RunFailed)
        assert end.code == "key_missing"
        assert "ANTHROPIC_API_KEY" in end.reason
        assert "--model scripted" in end.reason
