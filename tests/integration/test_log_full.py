"""A log without room: writes are refused with the reason, reads and cancels go on, and room is all the repair it needs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.nats_server import NatsServer
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.connection import Bus
from events.jetstream.room import NEW_RUNS_UP_TO, NEW_WORK_UP_TO
from events.subjects import run_scope
from gateway.errors import Problem
from gateway.operations import CancelRun
from tests.doors import Doors, open_doors
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.integration.test_turn_rules import hold


class _State(msgspec.Struct):
    bytes: int


class _Info(Answer, frozen=True):
    config: dict[str, Any] = {}
    state: _State = msgspec.field(default_factory=lambda: _State(0))


async def limit(bus: Bus, *, full: float) -> None:
    """Limit the log so that it is this `full` now; 0 takes the limit away."""
    info = await ask(bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info)
    config = info.config | {"max_bytes": int(info.state.bytes / full) if full else -1}
    await ask(bus, f"STREAM.UPDATE.{CALLBOARD}", config, answer=Answer)


async def grown(one: Rig) -> None:
    """Let the log hold so much that a twentieth of it is room for some facts; nobody here reads the filling."""
    for _ in range(30):
        await one.systems[0].bus.request("cb.filling.evt.run_f.-.-.run.filled.-", b"x" * 40_000)


async def limited(one: Rig, *, full: float) -> None:
    """Limit the log, and let all systems know at once."""
    await limit(one.systems[0].bus, full=full)
    for system in one.systems:
        await system.room.look()


async def refusal(one: Rig) -> Problem:
    with pytest.raises(Problem) as refused:
        await one.start(step("a"))
    return refused.value


async def test_near_its_end_no_run_is_taken_what_is_in_hand_goes_on(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([say("list_files")]))) as one:
        model = [hold(system) for system in one.systems][1]
        run = await one.start(step("a"), model="held")
        await one.until(run, lambda record: record.type == "model.requested.v1")
        await grown(one)
        await limited(one, full=NEW_RUNS_UP_TO + 0.01)
        problem = await refusal(one)
        assert (problem.status, problem.code, problem.retryable) == (503, "log_full", True)
        assert "CALLBOARD_LOG_BYTES_MAX" in problem.detail
        model.go.set()
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"


async def test_nearer_its_end_results_are_stored_nothing_new_is_asked_and_a_cancel_finds_room(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([say("list_files")])), workers=1) as one:
        model = [hold(system) for system in one.systems][1]
        runs = [await one.start(step("a"), model="held") for _ in range(2)]
        for run in runs:
            await one.until(run, lambda record: record.type == "model.requested.v1")
        await grown(one)
        await limited(one, full=NEW_WORK_UP_TO + 0.01)
        model.go.set()
        for run in runs:
            records = await one.until(run, lambda record: record.type == "model.responded.v1")
            assert "tool.requested" not in types(records)
        canceled, going_on = runs
        await one.door.cancel_run("default", canceled, CancelRun(), by="test")
        assert (await one.end(canceled))[-1].type == "run.canceled.v1"
        told = await one.systems[0].facts.load(run_scope("default", going_on))
        assert types(told)[-1] == "model.responded"
        await limited(one, full=0)
        assert (await one.end(going_on))[-1].type == "run.succeeded.v1"


async def test_a_full_log_refuses_even_a_cancel_with_the_reason_and_goes_on_when_there_is_room(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns([say("list_files")]))) as one:
        model = [hold(system) for system in one.systems][1]
        run = await one.start(step("a"), model="held")
        await one.until(run, lambda record: record.type == "model.requested.v1")
        await limit(one.systems[0].bus, full=1.0)
        with pytest.raises(Problem) as refused:
            await one.door.cancel_run("default", run, CancelRun(), by="test")
        assert (refused.value.status, refused.value.code) == (503, "log_full")
        assert "(10077)" in refused.value.detail
        assert (await one.door.run_state("default", run)).cancel is None
        model.go.set()
        await limited(one, full=0)
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert types(records).count("model.responded") == 1


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server whose disk is nearly full from the start."""
    async with NatsServer(tmp_path / "nats", sync_always=False, disk_bytes_max=200_000) as server:
        yield server


async def test_a_full_disk_is_told_at_the_doors_which_go_on_reading(small: NatsServer, tmp_path: Path) -> None:
    async with open_doors(small.url, "", tmp_path) as doors:
        first = (await doors.post("/v1/runs", {"goal": "x"}))["id"]
        answer = await _until_refused(doors)
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "log_full", True)
        assert int(answer.headers["retry-after"]) > 0
        assert (await doors.get(f"/v1/runs/{first}"))["status"] == "queued"
        assert len((await doors.get(f"/v1/runs/{first}/events"))["data"]) == 1
        assert (await doors.get("/readyz"))["log"] == "ok"


async def _until_refused(doors: Doors) -> Any:
    for number in range(1000):
        answer = await doors.http.post("/v1/runs", json={"goal": f"{number} " + "x" * 20_000})
        if answer.status_code != 202:
            return answer
    raise AssertionError("the disk was never full")


async def test_a_log_made_with_a_limit_keeps_it_and_is_widened_by_a_larger_one(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0, log_bytes_max=2_000_000) as one:
        bus = one.systems[0].bus
        assert (await ask(bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info)).config["max_bytes"] == 2_000_000
        async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0, log_bytes_max=3_000_000):
            assert (await ask(bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info)).config["max_bytes"] == 3_000_000
        async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0, log_bytes_max=1_000_000):
            assert (await ask(bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info)).config["max_bytes"] == 3_000_000
