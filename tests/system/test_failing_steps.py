"""Steps that cannot be done, as a user meets them: what the run comes to, what the exit code is, and what `events` tells."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from events.envelope import Record
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from tests.system.cli import Folder, up
from tests.system.deadly import NAME
from tests.system.processes import House, house

pytestmark = pytest.mark.timeout(180)
ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")
ROLES = [
    {"name": "dev", "description": "does it all", "prompt": "Do it."},
    {"name": "senior", "description": "does it when others cannot", "prompt": "Do it."},
]
DONE = [{"calls": [{"tool": "finish", "arguments": {"summary": "done"}}]}]


def step(id_: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "role": "dev", "task": f"do {id_}", "needs": list(needs), **more}


def request(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"goal": "try", "definition": {"name": "tries", "steps": list(steps), "roles": ROLES}, **more}


def cassette(folder: Path, *lines: dict[str, Any]) -> str:
    """Write a cassette, and return its path."""
    path = folder / "cassette.yaml"
    path.write_text(yaml.safe_dump({"delay": 0, "steps": list(lines)}))
    return str(path)


@asynccontextmanager
async def restarted(one: House, name: str) -> AsyncGenerator[None]:
    """Start a process of the house again whenever it dies, as an operator's supervisor does."""

    async def supervise() -> None:
        while True:
            process = one.processes[name].process
            assert process is not None
            await process.wait()
            await one.processes[name].start()

    supervisor = asyncio.create_task(supervise())
    try:
        yield
    finally:
        supervisor.cancel()
        await asyncio.wait([supervisor])


async def end_of(one: House, run: str, *, seconds: float) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(seconds), connect(one.nats.url, name="test") as bus:
        async for batch in JetStreamLog(bus).follow(run_scope("default", run), after=0):
            records += batch
            if records[-1].type in ENDS:
                return records
    raise AssertionError("the log ended")


async def test_a_step_whose_tool_kills_its_own_worker_ends_after_its_takeovers_and_the_fallback_role_does_it(
    tmp_path: Path,
) -> None:
    kills = [{"calls": [{"tool": "take_down", "arguments": {}}]}]
    script = cassette(tmp_path, {"role": "senior", "turns": DONE}, {"turns": kills})
    settings = {"CALLBOARD_CASSETTE": script, "CALLBOARD_TOOLS": NAME, "CALLBOARD_ACK_WAIT_SECONDS": "2"}
    plan = step("a", retry={"attempts_max": 1}, fallback="senior")
    async with house(tmp_path, settings=settings) as one, restarted(one, "worker-1"):
        run = await one.create_run(**request(plan, limits={"turns_max": 1, "takeovers_max": 1}))
        records = await end_of(one, run, seconds=90)
        assert records[-1].type == "run.succeeded.v1"
        assert one.processes["worker-1"].starts == 3
        told = await Folder(tmp_path, CALLBOARD_API_URL=one.api).run("events", run)
        assert told.code == 0
        assert "tool failed: attempts:" in told.out
        assert "step failed, its fallback role takes it up: turns_max" in told.out
        assert "step started by senior, the fallback role, attempt 2 of 2" in told.out


async def test_a_degraded_run_succeeds_only_if_it_was_allowed_to_and_strictly_it_does_not(tmp_path: Path) -> None:
    talk = [{"say": "I would rather talk."}]
    script = cassette(tmp_path, {"step": "a", "turns": talk}, {"step": "b", "turns": DONE})
    folder = Folder(tmp_path, CALLBOARD_CASSETTE=script)
    plan = (step("a", retry={"attempts_max": 1}, on_failure="degrade"), step("b", "a"))
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(request(*plan, limits={"turns_max": 1})))
    async with up(folder):
        refused = await folder.run("run", "-f", "request.yaml")
        assert refused.code == 5
        assert "--allow-degraded" in refused.out + refused.err
        allowed = await folder.run("run", "-f", "request.yaml", "--allow-degraded", "-o", "jsonl")
        assert allowed.code == 0
        result = allowed.lines[-1]
        assert (result["status"], result["is_error"], result["degraded"]) == ("succeeded", False, True)
        assert result["given_up"] == ["a"]
        run = result["run_id"]
        strict = await folder.run("runs", "result", run, "--strict")
        assert strict.code == 5
        assert (await folder.run("runs", "result", run)).code == 0
        steps = (await folder.run("runs", "steps", run, "-o", "json")).json["data"]
        assert [(each["key"], each["status"]) for each in steps] == [("a", "skipped"), ("b", "succeeded")]
        assert steps[0]["error"]["code"] == "turns_max"
        events = await folder.run("events", run)
        assert "step given up, the run goes on without it: turns_max" in events.out
        assert "run succeeded without a: done" in events.out


async def test_a_run_whose_time_is_over_exits_with_seven(tmp_path: Path) -> None:
    slow = [{"say": "...", "delay": 60, "calls": [{"tool": "finish", "arguments": {"summary": "late"}}]}]
    folder = Folder(tmp_path, CALLBOARD_CASSETTE=cassette(tmp_path, {"turns": slow}), CALLBOARD_SCRIPT_SPEED="1")
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(request(step("a"), limits={"run_seconds": 1})))
    async with up(folder):
        ended = await folder.run("run", "-f", "request.yaml", seconds=30)
        assert ended.code == 7
        assert "timed out" in ended.out + ended.err
