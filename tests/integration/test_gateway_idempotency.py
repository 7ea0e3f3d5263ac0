"""Idempotency keys over HTTP and NATS: the same request twice is done once and answered alike."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from events.door import KeyClaimed
from events.envelope import Entry
from events.subjects import Address
from gateway.idempotency import key_address
from tests.doors import Doors, open_doors
from tests.history import History
from tests.stories import Story, approval_of


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


async def test_the_same_request_again_gets_the_first_answer(doors: Doors) -> None:
    first = await doors.http.post("/v1/runs", json={"goal": "x"}, headers=key("a"))
    again = await doors.http.post("/v1/runs", json={"goal": "x"}, headers=key("a"))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await doors.get("/v1/runs"))["data"]) == 1


async def test_another_request_under_the_same_key_is_refused(doors: Doors) -> None:
    await doors.post("/v1/runs", {"goal": "x"}, headers=key("a"))
    answer = await doors.http.post("/v1/runs", json={"goal": "y"}, headers=key("a"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert len((await doors.get("/v1/runs"))["data"]) == 1


async def test_twenty_at_once_begin_one_run(doors: Doors) -> None:
    answers = await asyncio.gather(
        *(doors.http.post("/v1/runs", json={"goal": "x"}, headers=key("a")) for _ in range(20))
    )
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    others = [answer for answer in answers if answer.status_code != 202]
    assert len(ids) == 1
    assert all(answer.json()["code"] == "idempotency_in_flight" for answer in others)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in others)
    assert len((await doors.get("/v1/runs"))["data"]) == 1


async def test_a_request_that_was_cut_off_is_finished_by_its_repeat(doors: Doors) -> None:
    body = {"goal": "x"}
    first = await doors.http.post("/v1/runs", json=body, headers=key("probe"))
    claimed = (await doors.system.facts.load(key_address("default", "probe").fence))[0].fact
    assert isinstance(claimed, KeyClaimed)
    at = key_address("default", "cut")
    await doors.system.facts.append(_claim(at, claimed, doors.system.clock.now_ms()), expected=0)
    answer = await doors.http.post("/v1/runs", json=body, headers=key("cut"))
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    late = key_address("default", "late")
    await doors.system.facts.append(_claim(late, claimed, doors.system.clock.now_ms() - 60_000), expected=0)
    answer = await doors.http.post("/v1/runs", json=body, headers=key("late"))
    assert answer.status_code == 202
    assert answer.json()["id"] == first.json()["id"], "it makes what the claim says it makes"


def _claim(at: Address, fact: KeyClaimed, now_ms: int) -> Entry:
    return Entry(address=at, to="-", fact=fact, id=f"evt_{at.step}", time_ms=now_ms, causation="", version=1)


async def test_each_workspace_has_keys_of_its_own(doors: Doors) -> None:
    mine = await doors.post("/v1/runs", {"goal": "x"}, headers=key("a"))
    theirs = await doors.post("/v1/runs", {"goal": "y"}, headers={**key("a"), "Callboard-Workspace": "other"})
    assert mine["id"] != theirs["id"]


@pytest.mark.parametrize("name", ["x" * 256, "x" * 5000, "a\x7fb"])
async def test_a_key_that_is_none_is_refused_and_the_door_stays_open(doors: Doors, name: str) -> None:
    answer = await doors.http.post("/v1/runs", json={"goal": "x"}, headers=key(name))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert doors.system.bus.connected
    assert (await doors.post("/v1/runs", {"goal": "x"}))["status"] == "queued"


async def test_a_cancel_is_replayed_and_a_refused_one_too(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x"}))["id"]
    path = f"/v1/runs/{run}/cancel"
    first = await doors.http.post(path, json={"reason": "enough"}, headers=key("a"))
    again = await doors.http.post(path, json={"reason": "enough"}, headers=key("a"))
    other = await doors.http.post(path, json={"reason": "more"}, headers=key("a"))
    without = await doors.http.post(path, json={"reason": "more"})
    assert first.status_code == again.status_code == without.status_code == 200
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json()["code"] == "idempotency_mismatch"
    missing = await doors.http.post("/v1/runs/run_none/cancel", headers=key("b"))
    replay = await doors.http.post("/v1/runs/run_none/cancel", headers=key("b"))
    assert missing.status_code == replay.status_code == 404
    assert replay.headers["content-type"] == "application/problem+json"
    assert replay.headers["idempotent-replayed"] == "true"


async def test_the_first_decision_stands_and_is_told(doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("analyze")
    approval = approval_of(story.ask("analyze"))
    await history.pour(doors.system.facts)
    path = f"/v1/approvals/{approval}/decision"
    first = await doors.post(path, {"decision": "approve", "comment": "go", "by": "ann"}, headers=key("a"))
    again = await doors.http.post(path, json={"decision": "approve", "comment": "go", "by": "ann"}, headers=key("a"))
    assert first["decision"] == "approve"
    assert msgspec.json.decode(again.content) == first
    assert again.headers["idempotent-replayed"] == "true"
    second = await doors.http.post(path, json={"decision": "reject", "by": "bob"})
    assert (second.status_code, second.json()["code"]) == (409, "already_decided")
    assert second.json()["recorded"]["by"] == "ann"
    shown = await doors.get(f"/v1/approvals/{approval}")
    assert (shown["status"], shown["by"], shown["comment"]) == ("approved", "ann", "go")
