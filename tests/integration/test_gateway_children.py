"""Runs under runs as the doors show them: both ways linked, waited on, and the same from rows and from the log."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.run import RunChildRequested
from events.subjects import Address
from gateway import from_log
from gateway.client import Client
from gateway.commands.options import find_run
from gateway.shown import run as shown_run
from tests.doors import Doors, open_doors
from tests.history import History, entry
from tests.stories import Story

PLAN = {"steps": [{"id": "only", "role": "backend", "task": "do it"}]}


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


async def same_from_the_log(doors: Doors, run: str) -> Any:
    """Return a run as the doors show it, which is as its log alone gives it."""
    view = await doors.get(f"/v1/runs/{run}")
    row = await from_log.run_row(doors.system.facts, Address("default", run), upto=view["seq"])
    assert row is not None
    mine = json.loads(msgspec.json.encode(shown_run(row)))
    named = ("parent", "children", "waiting_on", "status")
    assert {name: mine[name] for name in named} == {name: view[name] for name in named}
    return view


async def spawned(doors: Doors) -> tuple[Story, str, RunChildRequested]:
    """Tell the doors of run_1, a step of which began a run and waits for it; return its story, that run and what asked for it."""
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("backend")
    child = story.spawn("backend")
    asked = history.records[-1].fact
    assert isinstance(asked, RunChildRequested)
    history.beside(child).run(asked.request, to="run")
    await doors.tell(history)
    return story, child, asked


async def test_a_run_that_waits_for_another_says_so_and_both_are_linked(doors: Doors) -> None:
    story, child, asked = await spawned(doors)
    view = await same_from_the_log(doors, "run_1")
    actor = story.actor_of("backend")
    assert (view["status"], [(each["kind"], each["id"]) for each in view["waiting_on"]]) == (
        "waiting",
        [("child", child)],
    )
    shown = {"id": child, "goal": "the rest", "step": actor, "call": asked.call, "wait": True, "status": ""}
    assert view["children"] == [shown]
    assert (await same_from_the_log(doors, child))["parent"] == {"run": "run_1", "step": actor, "call": asked.call}


async def test_the_last_run_is_the_one_that_somebody_began_and_not_one_under_it(doors: Doors) -> None:
    _, child, _ = await spawned(doors)
    await same_from_the_log(doors, child)
    newest = (await doors.get("/v1/runs?limit=1"))["data"][0]
    assert newest["id"] == child
    async with Client(doors.url) as client:
        assert await find_run(client, "@last") == "run_1"


async def test_a_run_that_is_done_but_for_one_under_it_waits_for_it_until_it_has_ended(doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    child = ""
    for key in ("analyze", "backend", "frontend", "ship"):
        story.begin(key)
        if key == "backend":
            child = story.spawn(key, wait=False)
        story.succeed(key)
    story.begin("review", "reviewer")
    story.pass_gate("review")
    told = len(history.records)
    await doors.tell(history)
    view = await same_from_the_log(doors, "run_1")
    assert (view["status"], [each["kind"] for each in view["waiting_on"]]) == ("waiting", ["child"])
    story.child_ended(child, "failed")
    del history.records[:told]
    last = await doors.system.facts.last(Address("default", "run_1").fence)
    await doors.system.facts.append(entry(history.records[0]), expected=last)
    view = await same_from_the_log(doors, "run_1")
    assert (view["status"], view["waiting_on"], view["children"][0]["status"]) == ("running", [], "failed")


async def test_a_door_begins_a_run_under_another_once_a_key(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "above", "blueprint": "software"}))["id"]
    place, key = f"/v1/runs/{run}/children", {"Idempotency-Key": "k"}
    first = await doors.http.post(place, json={"goal": "below", "blueprint": "software"}, headers=key)
    again = await doors.http.post(place, json={"goal": "below", "blueprint": "software"}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == f"/v1/runs/{first.json()['id']}"
    view = await same_from_the_log(doors, run)
    assert [(each["id"], each["wait"]) for each in view["children"]] == [(first.json()["id"], False)]


async def test_a_plan_above_what_the_log_takes_is_refused_and_not_tried_again(doors: Doors) -> None:
    steps = [{"id": f"s{number}", "role": "backend-engineer", "task": "x" * 9_000} for number in range(90)]
    answer = await doors.http.post("/v1/runs", json={"goal": "large", "plan": {"steps": steps}})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (413, "too_large", False)


async def test_a_run_that_cannot_be_begun_is_refused_by_the_rule_it_breaks(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "above", "blueprint": "software", "limits": {"children_max": 0}}))[
        "id"
    ]
    place = f"/v1/runs/{run}/children"
    full = await doors.http.post(place, json={"goal": "below"})
    assert (full.status_code, full.json()["code"]) == (409, "children_max")
    bad = await doors.http.post(place, json={"goal": "below", "plan": PLAN})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_request")
    assert "backend" in bad.json()["detail"]
    empty = await doors.http.post(place, json={"goal": " "})
    assert (empty.status_code, empty.json()["errors"][0]["pointer"]) == (422, "/goal")
    missing = await doors.http.post("/v1/runs/run_none/children", json={"goal": "x"})
    assert missing.status_code == 404
    await doors.post(f"/v1/runs/{run}/terminate")
    late = await doors.http.post(place, json={"goal": "below"})
    assert (late.status_code, late.json()["code"]) == (409, "run_ended")
