"""Runs are paused, resumed, canceled and terminated over both doors: said twice is no error, and the answer is the run."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import pytest

from events.subjects import Address
from gateway import from_log
from gateway.shown import run as shown_run
from tests.doors import Doors, open_doors


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


async def begin(doors: Doors) -> str:
    return str((await doors.post("/v1/runs", {"goal": "x"}))["id"])


async def test_pause_resume_and_terminate_are_each_answered_with_how_the_run_stands_now(doors: Doors) -> None:
    run = await begin(doors)
    told = [(verb, (await doors.post(f"/v1/runs/{run}/{verb}", {"reason": "why", "by": "ann"}))["status"])
            for verb in ("pause", "pause", "resume", "resume", "pause", "terminate", "terminate", "cancel")]  # fmt: skip
    assert told == [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "queued"),
        ("resume", "queued"),
        ("pause", "paused"),
        ("terminate", "canceled"),
        ("terminate", "canceled"),
        ("cancel", "canceled"),
    ]
    assert (await doors.get(f"/v1/runs/{run}"))["paused"] is None
    names = [event["type"] for event in (await doors.get(f"/v1/runs/{run}/events"))["data"]]
    assert [name.removeprefix("run.").removesuffix(".v1") for name in names] == [
        "requested", "paused", "resumed", "paused", "canceled"]  # fmt: skip
    for verb in ("pause", "resume"):
        late = await doors.http.post(f"/v1/runs/{run}/{verb}", json={})
        assert (late.status_code, late.json()["code"]) == (409, "run_ended")
        assert late.json()["recorded"]["type"] == "run.canceled.v1"


async def test_a_run_that_is_being_canceled_cannot_be_paused(doors: Doors) -> None:
    run = await begin(doors)
    await doors.post(f"/v1/runs/{run}/cancel")
    late = await doors.http.post(f"/v1/runs/{run}/pause", json={})
    assert (late.status_code, late.json()["code"]) == (409, "canceling")


async def test_paused_runs_are_listed_as_such_and_read_the_same_from_the_log(doors: Doors) -> None:
    run, other = await begin(doors), await begin(doors)
    view = await doors.post(f"/v1/runs/{run}/pause", {"by": "ann", "reason": "lunch"})
    assert (view["paused"]["by"], view["paused"]["reason"]) == ("ann", "lunch")
    assert [each["id"] for each in (await doors.get("/v1/runs", params={"status": "paused"}))["data"]] == [run]
    assert (await doors.get(f"/v1/runs/{other}"))["status"] == "queued"
    (fact,) = (await doors.get(f"/v1/runs/{run}/events", params={"type": "run.paused"}))["data"]
    row = await from_log.run_row(doors.system.facts, Address("default", run), upto=fact["seq"])
    assert row is not None
    assert json.loads(msgspec.json.encode(shown_run(row))) == view


async def test_a_reason_that_is_too_long_is_refused(doors: Doors) -> None:
    run = await begin(doors)
    answer = await doors.http.post(f"/v1/runs/{run}/pause", json={"reason": "x" * 5000})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/reason")


async def test_the_same_over_nats(doors: Doors, nats_url: str) -> None:
    run = await begin(doors)
    client = await nats.connect(nats_url)
    try:
        reply = await client.request("cb.default.api.runs.pause", json.dumps({"id": run}).encode(), timeout=10)
        assert json.loads(reply.data)["status"] == "paused"
        reply = await client.request("cb.default.api.runs.resume", json.dumps({"id": run}).encode(), timeout=10)
        assert json.loads(reply.data)["status"] == "queued"
    finally:
        await client.close()
