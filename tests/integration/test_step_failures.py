"""Steps that fail, hang, or have no provider end as their plan says, on a real log, and the run's events explain it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from actors.cassette import Cassette
from actors.model import Answer, Delta, ModelError, ModelRequest, ToolUse, Usage
from events.envelope import Record
from events.plan import Retry
from events.run import Limits, RunFailed, RunSucceeded, RunTimedOut, StepFailed, StepStarted, StepTimedOut
from events.subjects import Address
from events.tool import ApprovalRequested
from gateway import from_log
from gateway.models import Models
from gateway.operations import CancelRun, DecideApproval
from gateway.view.lines import notable
from gateway.view.words import words
from tests.integration.engine import REVIEWER, Rig, cassette, rig, step, turns, types
from toolbox.registry import registry
from toolbox.tool import Context, tool

ONCE = Retry(attempts_max=1)
TWICE = Retry(attempts_max=2, backoff_seconds=0.05, backoff_seconds_max=0.1)
TALK = [{"say": "I would rather talk."}]
SHORT = Limits(turns_max=1)


@tool(effect="idempotent", timeout_seconds=600)
async def hang(ctx: Context) -> str:
    """Never return."""
    await asyncio.Event().wait()
    return "never"


TOOLS = {**registry(), "hang": hang}
HANGS = [{"calls": [{"tool": "hang", "arguments": {}}]}]


def told(records: list[Record]) -> str:
    """Return what `callboard events` says of a run."""
    return "\n".join(words(record.fact).text for record in records if notable(record.fact))


def of(records: list[Record], kind: type[Any]) -> list[Any]:
    return [record.fact for record in records if isinstance(record.fact, kind)]


async def about_step(one: Rig, run: str) -> ApprovalRequested:
    """Wait until a human is asked about a step, and return what is asked."""
    records = await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
    (asked,) = of(records, ApprovalRequested)
    assert asked.kind == "step"
    return asked


async def test_a_step_that_always_fails_fails_the_run_after_its_attempts(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=TALK)) as one:
        run = await one.start(step("a", retry=TWICE), limits=SHORT)
        records = await one.end(run)
        end = records[-1].fact
        assert isinstance(end, RunFailed)
        assert (end.code, end.step) == ("turns_max", "a")
        assert [each.attempt for each in of(records, StepStarted)] == [1, 2]
        assert "attempt 2 of 2" in told(records)
        assert "step failed for good: turns_max" in told(records)


async def test_a_step_that_always_fails_is_taken_up_by_its_fallback_role(nats_url: str, tmp_path: Path) -> None:
    script = Cassette.from_dict({"delay": 0, "steps": [{"role": REVIEWER, "turns": turns()}, {"turns": TALK}]})
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a", retry=TWICE, fallback=REVIEWER), limits=SHORT)
        records = await one.end(run)
        assert isinstance(records[-1].fact, RunSucceeded)
        assert [each.role for each in of(records, StepStarted)] == ["dev", "dev", REVIEWER]
        assert "its fallback role takes it up" in told(records)
        assert "step started by reviewer, the fallback role, attempt 3 of 4" in told(records)


async def test_a_step_that_always_fails_is_given_up_and_the_next_one_is_told_what_is_missing(
    nats_url: str, tmp_path: Path
) -> None:
    missing = {"turns": turns(), "step": "b", "when": {"contains": ["# Missing", "- a: not done after 1 model calls"]}}
    script = Cassette.from_dict({"delay": 0, "steps": [missing, {"step": "a", "turns": TALK}]})
    async with rig(nats_url, tmp_path, script) as one:
        plan = (step("a", retry=ONCE, on_failure="degrade"), step("b", "a"))
        run = await one.start(*plan, limits=SHORT, degrade=True)
        records = await one.end(run)
        end = records[-1].fact
        assert isinstance(end, RunSucceeded)
        assert (end.degraded, end.given_up) == (True, ("a",))
        assert "run succeeded without a" in told(records)
        row = await from_log.run_row(one.systems[0].facts, Address("default", run), upto=records[-1].seq)
        assert row is not None
        assert (row.status, row.degraded, row.given_up, row.steps_done) == ("succeeded", True, ("a",), 1)


async def test_a_human_lets_the_run_go_on_without_a_step(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=TALK, b=turns())) as one:
        run = await one.start(step("a", retry=ONCE, on_failure="ask"), step("b", "a"), limits=Limits(turns_max=1))
        asked = await about_step(one, run)
        assert b"not done after 1 model calls" in bytes(asked.arguments)
        await one.door.decide("default", asked.approval, DecideApproval(decision="approve"), by="ann")
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        assert "step given up, ann lets the run go on without it" in told(records)


async def test_a_humans_words_are_what_the_next_attempt_reads(nats_url: str, tmp_path: Path) -> None:
    helped = {"turns": turns(), "when": {"contains": "ann: call finish"}}
    script = Cassette.from_dict({"delay": 0, "steps": [helped, {"turns": TALK}]})
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a", retry=ONCE, on_failure="ask"), limits=SHORT)
        asked = await about_step(one, run)
        again = DecideApproval(decision="respond", comment="call finish")
        await one.door.decide("default", asked.approval, again, by="ann")
        records = await one.end(run)
        assert types(records)[-1] == "run.succeeded"
        assert "step opened again by ann: call finish" in told(records)


async def test_a_human_lets_the_run_fail(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=TALK)) as one:
        run = await one.start(step("a", retry=ONCE, on_failure="ask"), limits=SHORT)
        asked = await about_step(one, run)
        no = DecideApproval(decision="reject", comment="not like this")
        await one.door.decide("default", asked.approval, no, by="ann")
        end = (await one.end(run))[-1].fact
        assert isinstance(end, RunFailed)
        assert end.reason == "ann let the run fail: not like this"


async def test_an_attempt_that_hangs_is_stopped_and_tried_again_and_then_the_fallback_role_does_it(
    nats_url: str, tmp_path: Path
) -> None:
    script = Cassette.from_dict({"delay": 0, "steps": [{"role": REVIEWER, "turns": turns()}, {"turns": HANGS}]})
    async with rig(nats_url, tmp_path, script, tools=TOOLS, ack_wait_seconds=2) as one:
        run = await one.start(step("a", timeout_seconds=0.5, retry=TWICE, fallback=REVIEWER))
        records = await one.end(run)
        assert isinstance(records[-1].fact, RunSucceeded)
        assert [(each.code, each.next) for each in of(records, StepFailed)] == [
            ("timeout", "retry"),
            ("timeout", "fallback"),
        ]
        for timed_out, stopped in zip(at(records, StepTimedOut), at(records, StepFailed), strict=True):
            assert stopped - timed_out < 10_000
        assert types(records).count("tool.canceled") == 2
        assert "step timed out after 500 ms: its agent is told to stop" in told(records)
        assert "and is tried again at" in told(records)


def at(records: list[Record], kind: type[Any]) -> list[int]:
    return [record.time_ms for record in records if isinstance(record.fact, kind)]


async def test_a_run_whose_time_is_over_stops_what_hangs_and_ends_timed_out(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=HANGS), tools=TOOLS, ack_wait_seconds=2) as one:
        run = await one.start(step("a"), limits=Limits(run_seconds=1))
        records = await one.end(run)
        assert isinstance(records[-1].fact, RunTimedOut)
        assert {"tool.canceled", "agent.canceled", "step.canceled"} <= set(types(records))
        assert "run timed out: not done within its run_seconds, 1" in told(records)
        row = await from_log.run_row(one.systems[0].facts, Address("default", run), upto=records[-1].seq)
        assert row is not None
        assert (row.status, row.code) == ("timed_out", "timed_out")


async def test_while_a_step_is_left_alone_nobody_holds_it_and_the_run_says_that_it_waits_for_a_timer(
    nats_url: str, tmp_path: Path
) -> None:
    patient = Retry(attempts_max=2, backoff_seconds=600, backoff_seconds_max=600)
    async with rig(nats_url, tmp_path, cassette(a=HANGS), tools=TOOLS, ack_wait_seconds=2) as one:
        run = await one.start(step("a", timeout_seconds=0.5, retry=patient))
        records = await one.until(run, lambda record: isinstance(record.fact, StepFailed))
        row = await from_log.run_row(one.systems[0].facts, Address("default", run), upto=records[-1].seq)
        assert row is not None
        (wait,) = row.waiting_on
        assert (row.status, wait.kind) == ("waiting", "timer")
        assert wait.since == records[-1].time_ms
        await one.door.cancel_run("default", run, CancelRun(), by="ann")
        assert types(await one.end(run))[-1] == "run.canceled"


class DownModel:
    """A model of a provider that is down for so many calls, and then has every step finished."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        self.calls -= 1
        if self.calls >= 0:
            raise ModelError("529 overloaded", kind="back_off", code="overloaded")
        use = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"back again"}'))
        yield Answer(blocks=(use,), stop="tool_use", usage=Usage(output_tokens=1), model="down")


def take_down(one: Rig, calls: int) -> None:
    """Let every worker's provider be down for so many calls."""
    model = DownModel(calls)
    for system in one.systems:
        system.models = Models(system.settings, down=model)


BRIEF = Limits(attempts_max=3, model_attempts_max=2, model_backoff_ms=10)
SOON = Retry(backoff_seconds=0.05, backoff_seconds_max=0.1)


async def test_a_step_whose_provider_is_down_for_a_while_is_done_by_a_later_attempt(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        take_down(one, 5)
        run = await one.start(step("a", retry=SOON), model="down", limits=BRIEF)
        records = await one.end(run)
        assert isinstance(records[-1].fact, RunSucceeded)
        assert [(each.code, each.next) for each in of(records, StepFailed)] == [("overloaded", "retry")] * 2
        assert types(records).count("model.failed") == 5
        assert "model call of turn 1 failed, tried again at" in told(records)
        assert "the model gave no answer in 2 tries: 529 overloaded" in told(records)


async def test_a_step_whose_provider_stays_down_ends_as_its_plan_says(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        take_down(one, 6)
        plan = (step("a", retry=SOON, on_failure="degrade"), step("b", "a"))
        run = await one.start(*plan, model="down", limits=BRIEF, degrade=True)
        records = await one.end(run)
        end = records[-1].fact
        assert isinstance(end, RunSucceeded)
        assert end.given_up == ("a",)
        assert "step given up, the run goes on without it: overloaded" in told(records)


async def test_a_failed_validation_shows_as_failed_and_is_what_the_step_failed_for(
    nats_url: str, tmp_path: Path
) -> None:
    check = ("python3", "-c", "raise SystemExit('two tests failed')")
    script = Cassette.from_dict({"delay": 0, "steps": [{"turns": turns()}]})
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a", retry=ONCE, validate=(check,)))
        records = await one.end(run)
        end = records[-1].fact
        assert isinstance(end, RunFailed)
        assert end.code == "validation"
        assert end.reason.startswith("$ python3 -c")
        said = [words(record.fact) for record in records if record.type == "tool.completed.v1"]
        assert [each.sign for each in said] == ["done", "failed"]
        assert "command failed: exit code 1 two tests failed" in said[-1].text
