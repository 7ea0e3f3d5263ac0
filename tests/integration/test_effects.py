"""Effects by their nature, with real workers and a target that counts: keyed ones under one key, unsafe ones once, no late ones."""

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploy.process import becomes_true
from events.blobs import Blobs
from events.envelope import Record
from events.plan import CallLimits
from events.run import Limits
from events.subjects import Address
from events.tool import ApprovalRequested, ToolCompleted, ToolFailed, ToolRefused, ToolStarted
from gateway import from_log
from gateway.operations import DecideApproval
from gateway.system import System
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.lines import lines
from toolbox.registry import registry
from toolbox.tool import Context, Effect, Tool, ToolError, Unknown, tool

ACK_WAIT = 1.0


class Target:
    """An outside thing: it keeps what was done to it by key, and the first `slow` of its callers until they may go on."""

    def __init__(self, *, slow: int = 1) -> None:
        self.slow = slow
        self.keys: list[str] = []
        self.came = [asyncio.Event() for _ in range(slow)]
        self.go = [asyncio.Event() for _ in range(slow)]

    async def act(self, key: str) -> str:
        number = len(self.keys)
        self.keys.append(key)
        if number < self.slow:
            self.came[number].set()
            await self.go[number].wait()
        return f"done as number {number + 1}"


def tools_on(
    target: Target, *, effect: Effect, unknown: Unknown | None = None, known: str | None = ""
) -> Mapping[str, Tool]:
    """Return the tools there are, with `act`, which acts on the target; its probe finds `known` (empty: it has none)."""

    async def asked(_ctx: Context, _arguments: Any) -> str | None:
        return known

    @tool(effect=effect, unknown=unknown, probe=asked if known != "" else None)
    async def act(ctx: Context) -> str:
        """Act on the target."""
        return await target.act(ctx.effect_id)

    return {**registry(), "act": act}


ACTS = cassette(a=turns([say("act")]))


def number_of(record: Record) -> int:
    """Return the number of the worker that wrote a record."""
    return int(record.engine.rpartition("-")[2])


async def performer(one: Rig, run: str, *, epoch: int = 1) -> int:
    """Return the number of the worker that began the call's effect in an epoch."""
    records = await one.until(run, lambda record: record.fact == ToolStarted(epoch=epoch))
    return number_of(records[-1])


def ends(records: list[Record]) -> list[ToolCompleted | ToolFailed]:
    """Return how the calls of `act` ended; `finish` has no part in it."""
    calls = {record.address for record in records if b'"act"' in record.body and record.type == "tool.requested.v1"}
    return [
        record.fact
        for record in records
        if record.address in calls and isinstance(record.fact, ToolCompleted | ToolFailed)
    ]


async def test_a_keyed_call_is_made_under_the_same_key_by_the_worker_that_takes_it_over(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target()
    async with rig(
        nats_url, tmp_path, ACTS, workers=2, tools=tools_on(target, effect="keyed"), ack_wait_seconds=ACK_WAIT
    ) as one:
        run = await one.start(step("a"))
        number = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        one.workers[number - 1].cancel()
        records = await one.end(run)
    assert len(target.keys) == 2
    assert len(set(target.keys)) == 1
    assert [end.epoch for end in ends(records)] == [2]


@pytest.mark.parametrize(("known", "told"), [("receipt 17", "receipt 17"), (None, "not_done")])
async def test_the_probe_tells_what_became_of_an_unsafe_call_that_is_never_made_twice(
    nats_url: str, tmp_path: Path, known: str | None, told: str
) -> None:
    target = Target()
    tools = tools_on(target, effect="unsafe", known=known)
    async with rig(nats_url, tmp_path, ACTS, workers=2, tools=tools, ack_wait_seconds=ACK_WAIT) as one:
        run = await one.start(step("a"))
        number = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        one.workers[number - 1].cancel()
        records = await one.end(run)
    assert len(target.keys) == 1
    assert "tool.outcome_unknown" in types(records)
    (end,) = ends(records)
    assert told == (end.text if isinstance(end, ToolCompleted) else end.code)


async def test_the_model_reads_that_nobody_knows_what_became_of_an_unsafe_call(nats_url: str, tmp_path: Path) -> None:
    target = Target()
    tools = tools_on(target, effect="unsafe")
    async with rig(nats_url, tmp_path, ACTS, workers=2, tools=tools, ack_wait_seconds=ACK_WAIT) as one:
        run = await one.start(step("a"))
        number = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        one.workers[number - 1].cancel()
        records = await one.end(run)
    assert len(target.keys) == 1
    assert [end.code for end in ends(records) if isinstance(end, ToolFailed)] == ["outcome_unknown"]


async def test_a_human_says_what_became_of_an_unsafe_call_and_the_run_tells_that_it_waits_for_them(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target()
    tools = tools_on(target, effect="unsafe", unknown="human")
    async with rig(nats_url, tmp_path, ACTS, workers=2, tools=tools, ack_wait_seconds=ACK_WAIT) as one:
        run = await one.start(step("a"))
        number = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        one.workers[number - 1].cancel()
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1]
        assert isinstance(asked.fact, ApprovalRequested)
        assert asked.fact.kind == "outcome"
        row = await from_log.run_row(one.systems[0].facts, Address("default", run), upto=asked.seq)
        assert row is not None
        assert [wait.id for wait in row.waiting_on] == [asked.fact.approval]
        answer = DecideApproval(decision="respond", comment="receipt 17", digest=asked.fact.digest)
        decided = await one.door.decide("default", asked.fact.approval, answer, by="ann")
        assert decided.decision == "respond"
        records = await one.end(run)
    assert len(target.keys) == 1
    assert [end.text for end in ends(records) if isinstance(end, ToolCompleted)] == ["receipt 17"]


async def test_what_a_stopped_worker_brings_late_is_refused_and_its_ack_takes_no_ticket_away(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target(slow=2)
    tools = tools_on(target, effect="keyed")
    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            ACTS,
            workers=2,
            tools=tools,
            urls=[line.url for line in made],
            ack_wait_seconds=ACK_WAIT,
        ) as one,
    ):
        run = await one.start(step("a"))
        first = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        made[first - 1].moves.clear()
        second = await performer(one, run, epoch=2)
        assert second != first
        await asyncio.wait_for(target.came[1].wait(), 10)
        target.go[0].set()
        made[first - 1].moves.set()
        refused = (await one.until(run, lambda record: isinstance(record.fact, ToolRefused)))[-1]
        assert refused.fact == ToolRefused(epoch=1, reason="stale_epoch: epoch 2 performs it now")
        one.workers[second - 1].cancel()
        records = await one.end(run)
    assert records[-1].type == "run.succeeded.v1"
    assert [end.epoch for end in ends(records)] == [3]
    assert len(set(target.keys)) == 1


async def test_the_files_of_a_late_outcome_are_dropped(nats_url: str, tmp_path: Path) -> None:
    target = Target()

    @tool(effect="keyed", writes=True)
    async def act(ctx: Context) -> str:
        """Write down which call this is."""
        await ctx.files.write("said.txt", f"call {len(target.keys) + 1}".encode())
        return await target.act(ctx.effect_id)

    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            ACTS,
            workers=2,
            tools={**registry(), "act": act},
            urls=[line.url for line in made],
            ack_wait_seconds=ACK_WAIT,
        ) as one,
    ):
        run = await one.start(step("a"))
        first = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        made[first - 1].moves.clear()
        await one.end(run)
        target.go[0].set()
        made[first - 1].moves.set()
        await one.until(run, lambda record: isinstance(record.fact, ToolRefused))
        state = await one.door.run_state("default", run)
    assert state.head["said.txt"].sha == sha256(b"call 2").hexdigest()


async def test_a_stopped_workers_late_outcome_settles_an_unsafe_call_that_nobody_knew_the_outcome_of(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target()
    tools = tools_on(target, effect="unsafe", unknown="human")
    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            ACTS,
            workers=2,
            tools=tools,
            urls=[line.url for line in made],
            ack_wait_seconds=ACK_WAIT,
        ) as one,
    ):
        run = await one.start(step("a"))
        first = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        made[first - 1].moves.clear()
        await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
        target.go[0].set()
        made[first - 1].moves.set()
        records = await one.end(run)
    assert len(target.keys) == 1
    assert [end.text for end in ends(records) if isinstance(end, ToolCompleted)] == ["done as number 1"]


async def test_a_worker_that_comes_back_while_a_human_is_asked_goes_on_and_settles_it(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target()
    tools = tools_on(target, effect="unsafe", unknown="human")
    async with (
        lines(nats_url, 2) as made,
        rig(
            nats_url,
            tmp_path,
            ACTS,
            workers=2,
            tools=tools,
            urls=[line.url for line in made],
            ack_wait_seconds=ACK_WAIT,
        ) as one,
    ):
        run = await one.start(step("a"))
        first = await performer(one, run)
        await asyncio.wait_for(target.came[0].wait(), 10)
        made[first - 1].moves.clear()
        asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1]
        made[first - 1].moves.set()
        box = one.systems[first].boxes.of(asked.address)
        assert await becomes_true(lambda: box.seen.last >= asked.seq, within_seconds=10)
        target.go[0].set()
        records = await one.end(run)
    assert [end.text for end in ends(records) if isinstance(end, ToolCompleted)] == ["done as number 1"]


async def test_a_call_whose_workers_keep_dying_ends_after_its_takeovers(nats_url: str, tmp_path: Path) -> None:
    target = Target(slow=3)
    tools = tools_on(target, effect="keyed")
    limits = Limits(takeovers_max=1)
    async with rig(nats_url, tmp_path, ACTS, workers=3, tools=tools, ack_wait_seconds=ACK_WAIT) as one:
        run = await one.start(step("a"), limits=limits)
        for epoch in (1, 2):
            number = await performer(one, run, epoch=epoch)
            await asyncio.wait_for(target.came[epoch - 1].wait(), 10)
            one.workers[number - 1].cancel()
        records = await one.end(run)
    assert len(target.keys) == 2
    assert [end.code for end in ends(records) if isinstance(end, ToolFailed)] == ["attempts"]


class Broken(ToolError):
    """What a flaky service answers."""

    def __init__(self) -> None:
        super().__init__("unavailable", "503", retryable=True)


@pytest.mark.parametrize(("faults", "told"), [(2, "done"), (9, "unavailable")])
async def test_a_call_that_fails_for_now_is_made_again_as_often_as_its_tool_says(
    nats_url: str, tmp_path: Path, faults: int, told: str
) -> None:
    keys: list[str] = []

    @tool(effect="keyed", attempts_max=3, backoff_seconds=0.05)
    async def act(ctx: Context) -> str:
        """Fail for now, some times."""
        keys.append(ctx.effect_id)
        if len(keys) <= faults:
            raise Broken
        return "done"

    async with rig(nats_url, tmp_path, ACTS, tools={**registry(), "act": act}) as one:
        records = await one.end(await one.start(step("a")))
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert types(records).count("tool.attempt_failed") == 2
    (end,) = ends(records)
    assert told == (end.text if isinstance(end, ToolCompleted) else end.code)


@pytest.mark.parametrize(("effect", "calls", "code"), [("read", 2, "timed_out"), ("unsafe", 1, "outcome_unknown")])
async def test_a_call_that_hangs_is_stopped_by_its_timeout(
    nats_url: str, tmp_path: Path, effect: Effect, calls: int, code: str
) -> None:
    stopped: list[str] = []

    @tool(effect=effect, attempts_max=2, backoff_seconds=0.05, timeout_seconds=0.2)
    async def act(ctx: Context) -> str:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(ctx.effect_id)
        return "never"

    async with rig(nats_url, tmp_path, ACTS, tools={**registry(), "act": act}) as one:
        records = await one.end(await one.start(step("a")))
    assert len(stopped) == calls
    assert [end.code for end in ends(records) if isinstance(end, ToolFailed)] == [code]


class AwayBlobs:
    """A blob store that is out of reach until `back` is set; it tells when it was asked for in vain."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.back = asyncio.Event()
        self.back.set()
        self.refused = 0
        self.often = asyncio.Event()

    async def put(self, workspace: str, data: bytes) -> str:
        return await self.blobs.put(workspace, data)

    async def get(self, workspace: str, sha: str) -> bytes:
        if not self.back.is_set():
            self.refused += 1
            if self.refused > 2:
                self.often.set()
            raise OSError("the disk is away")
        return await self.blobs.get(workspace, sha)


def away(system: System) -> AwayBlobs:
    blobs = AwayBlobs(system.blobs)
    system.blobs = blobs
    return blobs


async def test_a_blob_store_that_is_away_for_long_fails_no_call_and_counts_as_no_attempt(
    nats_url: str, tmp_path: Path
) -> None:
    target = Target()
    script = cassette(
        a=turns([say("write_file", path="a.txt", content="1")], [say("act")], [say("read_file", path="a.txt")])
    )
    async with rig(nats_url, tmp_path, script, workers=0, tools=tools_on(target, effect="read")) as one:
        blobs = away(one.systems[0])
        one.work(0)
        run = await one.start(step("a"))
        await asyncio.wait_for(target.came[0].wait(), 20)
        blobs.back.clear()
        target.go[0].set()
        await asyncio.wait_for(blobs.often.wait(), 20)
        blobs.back.set()
        records = await one.end(run)
    assert records[-1].type == "run.succeeded.v1"
    assert not {"tool.started", "tool.failed", "tool.attempt_failed"} & set(types(records))


async def test_a_steps_own_word_on_its_calls_goes_before_the_tools(nats_url: str, tmp_path: Path) -> None:
    made = 0

    @tool(effect="read", attempts_max=5, backoff_seconds=0.01, timeout_seconds=600)
    async def act(ctx: Context) -> str:
        """Hang."""
        nonlocal made
        made += 1
        await asyncio.Event().wait()
        return ctx.effect_id

    limits = {"act": CallLimits(timeout_seconds=0.1, attempts_max=2)}
    async with rig(nats_url, tmp_path, ACTS, tools={**registry(), "act": act}) as one:
        records = await one.end(await one.start(step("a", calls=limits)))
    assert made == 2
    assert [end.code for end in ends(records) if isinstance(end, ToolFailed)] == ["timed_out"]


async def test_a_check_that_hangs_is_stopped_by_its_timeout_and_fails_the_step(nats_url: str, tmp_path: Path) -> None:
    wait = ("python3", "-c", "import time; time.sleep(50)")
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")]))
    async with rig(nats_url, tmp_path, script) as one:
        limits = {"run_check": CallLimits(timeout_seconds=0.5)}
        run = await one.start(step("a", validate=(wait,), calls=limits), limits=Limits(validation_rounds_max=1))
        records = await one.until(run, lambda record: record.type == "agent.failed.v1")
    failed = [record.fact for record in records if isinstance(record.fact, ToolFailed)]
    assert [fact.code for fact in failed] == ["timed_out"]
    assert b"took longer than 0.5 s" in records[-1].body
