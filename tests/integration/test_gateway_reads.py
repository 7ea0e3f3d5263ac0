"""What the doors tell of runs: pages, details, results and files, of runs that real workers work on and of told ones."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actors.cassette import Cassette
from deploy.postgres import Postgres
from events.envelope import structured
from events.subjects import run_scope
from gateway import from_log
from gateway.system import run_worker
from projections import runs
from tests.doors import Doors, open_doors
from tests.history import History
from tests.stories import Story, approval_of, told

PLAN = {
    "steps": [
        {"id": "write", "role": "coder", "task": "write", "expects": ["notes/a.md"]},
        {"id": "more", "role": "coder", "task": "write more", "needs": ["write"]},
    ]
}
EVIL = '<script>alert(1)</script>"'


def cassette() -> Cassette:
    def write(path: str, text: str) -> dict[str, Any]:
        return {"tool": "write_file", "arguments": {"path": path, "content": text}}

    def done(words: str) -> dict[str, Any]:
        return {"calls": [{"tool": "finish", "arguments": {"summary": words}}]}

    first = [write("notes/a.md", "# A\n"), write("page \u00e9.html", EVIL)]
    steps = [
        {"step": "write", "turns": [{"calls": first}, done("wrote it")]},
        {"step": "more", "turns": [{"calls": [write("notes/a.md", "# A, again\n")]}, done("wrote more")]},
    ]
    return Cassette.from_dict({"name": "reads", "delay": 0, "steps": steps})


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path, cassette=cassette()) as doors:
        yield doors


@pytest.fixture
async def working(doors: Doors) -> AsyncIterator[Doors]:
    """With a worker."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_worker(doors.system, stop))
        yield doors
        stop.set()


async def test_a_run_is_waited_for_and_all_it_left_is_fetched(working: Doors) -> None:
    answer = await working.http.post("/v1/runs", json={"goal": "x", "plan": PLAN}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    run = answer.json()
    assert run["status"] == "succeeded"
    assert answer.headers["location"] == f"/v1/runs/{run['id']}"
    path = f"/v1/runs/{run['id']}"

    result = await working.get(f"{path}/result")
    assert result["type"] == "result"
    assert (result["is_error"], result["status"], result["error"]) == (False, "succeeded", None)
    assert result["result"] == "wrote more"
    assert result["num_turns"] == 4
    assert result["duration_ms"] > 0
    assert result["denials"] == []
    assert result["usage"]["model_calls"] == 4

    steps = (await working.get(f"{path}/steps"))["data"]
    assert [(step["key"], step["status"]) for step in steps] == [("write", "succeeded"), ("more", "succeeded")]
    graph = await working.get(f"{path}/graph")
    assert graph["edges"] == [{"from": "write", "to": "more", "rework": False}]
    used = await working.get(f"{path}/usage", params={"group_by": "step"})
    assert (used["turns"], len(used["data"])) == (4, 2)

    files = (await working.get(f"{path}/files"))["data"]
    assert [file["path"] for file in files] == ["notes/a.md", "page \u00e9.html"]
    archives = [(await working.http.get(f"{path}/files.zip")).content for _ in range(2)]
    assert archives[0] == archives[1]
    with zipfile.ZipFile(io.BytesIO(archives[0])) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["notes/a.md", "page \u00e9.html"]
        assert archive.read("notes/a.md") == b"# A, again\n"

    stored = await working.system.facts.load(run_scope("default", run["id"]))
    found: list[Any] = []
    page: dict[str, Any] = {"next_cursor": 0}
    while page["next_cursor"] is not None:
        page = await working.get(f"{path}/events", params={"after": page["next_cursor"], "limit": 7})
        found += page["data"]
    assert [event["seq"] for event in found] == [record.seq for record in stored]
    assert [event["data"] for event in found] == [
        (await working.get(f"/v1/events/{record.seq}"))["data"] for record in stored
    ]
    assert found[0]["id"] == structured(stored[0]).id


async def test_an_artifact_is_handed_over_and_never_shown(working: Doors) -> None:
    plan = {"steps": [{**PLAN["steps"][0], "expects": ["notes/a.md", "page \u00e9.html"]}, PLAN["steps"][1]]}
    body = {"goal": "x", "plan": plan}
    run = (await working.http.post("/v1/runs", json=body, headers={"Prefer": "wait=30"})).json()
    artifacts = (await working.get(f"/v1/runs/{run['id']}/artifacts"))["data"]
    assert {artifact["name"] for artifact in artifacts} == {"notes/a.md", "page \u00e9.html"}
    page = next(artifact for artifact in artifacts if artifact["name"].startswith("page"))
    assert (await working.get(f"/v1/artifacts/{page['id']}")) == page
    answer = await working.http.get(page["content"])
    assert answer.content == EVIL.encode()
    assert hashlib.sha256(answer.content).hexdigest() == page["sha256"]
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"page__.html\"; filename*=UTF-8''page%20%C3%A9.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    again = await working.http.get(page["content"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    versions = (await working.get(f"/v1/artifacts/{page['id']}/versions"))["data"]
    assert [version["version"] for version in versions] == [1]
    other = {"Callboard-Workspace": "other"}
    for path in (f"/v1/artifacts/{page['id']}", page["content"], f"/v1/artifacts/{page['id']}/versions"):
        assert (await working.http.get(path, headers=other)).status_code == 404
    assert (await working.get("/v1/artifacts", params={"run": run["id"], "step": "more"}))["data"] == []


async def test_waiting_ends_when_its_time_is_over(doors: Doors) -> None:
    answer = await doors.http.post("/v1/runs", json={"goal": "x"}, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    again = await doors.http.get(f"/v1/runs/{answer.json()['id']}/result")
    assert again.status_code == 202
    assert again.json()["status"] == "queued"


async def test_lists_are_paged_without_a_gap_or_a_repeat(doors: Doors) -> None:
    made = [(await doors.post("/v1/runs", {"goal": f"goal {n}", "labels": {"n": str(n % 2)}}))["id"] for n in range(7)]
    found: list[str] = []
    url: str | None = "/v1/runs?limit=3&label=n%3A0"
    while url is not None:
        answer = await doors.http.get(url)
        page = answer.json()
        found += [run["id"] for run in page["data"]]
        assert page["has_more"] == (page["next_cursor"] is not None) == ("link" in answer.headers)
        url = "/v1/runs" + answer.headers["link"][1:].partition(">")[0] if page["has_more"] else None
    assert found == [id_ for n, id_ in reversed(list(enumerate(made))) if n % 2 == 0]
    assert [run["goal"] for run in (await doors.get("/v1/runs", params={"q": "GOAL 3"}))["data"]] == ["goal 3"]
    assert (await doors.get("/v1/runs", params={"status": "running"}))["data"] == []
    assert (await doors.get("/v1/runs", params={"blueprint": "software"}))["data"] == []


async def test_what_waits_for_a_human_is_listed_and_shown_alike(doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("analyze")
    calls = [story.ask("analyze"), story.ask("analyze", kind="question")]
    await history.pour(doors.system.facts)
    listed = (await doors.get("/v1/approvals", params={"status": "pending", "run": "run_1"}))["data"]
    assert [approval["id"] for approval in listed] == [approval_of(call) for call in reversed(calls)]
    for approval in listed:
        assert await doors.get(f"/v1/approvals/{approval['id']}") == approval
    run = await doors.get("/v1/runs/run_1")
    assert run["status"] == "waiting"
    assert [wait["kind"] for wait in run["waiting_on"]] == ["approval", "question"]
    await doors.post(f"/v1/approvals/{listed[1]['id']}/decision", {"decision": "edit", "arguments": {"where": "test"}})
    shown = await doors.get(f"/v1/approvals/{listed[1]['id']}")
    assert (shown["status"], shown["edited"]) == ("edited", {"where": "test"})


@pytest.mark.parametrize("seed", range(4))
async def test_a_run_read_from_the_log_is_the_run_in_the_rows(doors: Doors, seed: int) -> None:
    history = History("run_1")
    telling = told(Story(history), Random(seed))
    facts = doors.system.facts
    store = doors.store
    assert store is not None
    done = 0
    while next(telling, "over") != "over":
        await history.pour(facts, after=done)
        done = len(history.records)
        await store.caught_up(done, 10)
        row = await runs.run(store, "default", "run_1")
        read = await from_log.run_row(facts, history.address, upto=done)
        assert row is not None
        assert read is not None
        assert read.status == row.status
        assert (read.waiting_on, read.steps_total, read.steps_done) == (row.waiting_on, row.steps_total, row.steps_done)
        assert (read.code, read.reason, read.error_step, read.summary) == (
            (row.code, row.reason, row.error_step, row.summary)
        )
        assert (read.created_at, read.started_at, read.ended_at) == (row.created_at, row.started_at, row.ended_at)


async def test_an_accepted_run_never_looks_missing(nats_url: str, database_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, database_url, tmp_path, project=False) as doors:
        run = (await doors.post("/v1/runs", {"goal": "x", "labels": {"a": "b"}}))["id"]
        shown = await doors.get(f"/v1/runs/{run}")
        assert (shown["id"], shown["status"], shown["goal"], shown["labels"]) == (run, "queued", "x", {"a": "b"})
        assert (await doors.get(f"/v1/runs/{run}/status"))["status"] == "queued"
        assert (await doors.get("/readyz"))["projection_lag"] == 1
        await doors.post(f"/v1/runs/{run}/cancel")
        assert (await doors.get(f"/v1/runs/{run}"))["seq"] == 2


async def test_without_postgres_runs_begin_are_seen_decided_and_stopped(
    nats_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Postgres(tmp_path_factory.mktemp("own"))
    async with server, open_doors(nats_url, server.url, tmp_path) as doors:
        before = (await doors.post("/v1/runs", {"goal": "before"}))["id"]
        assert (await doors.get("/readyz"))["status"] == "ready"
        server.kill()
        history = History("run_1")
        story = Story(history)
        story.start()
        story.begin("analyze")
        approval = approval_of(story.ask("analyze"))
        await doors.tell(history)
        after = (await doors.post("/v1/runs", {"goal": "after"}))["id"]
        for run, goal in ((before, "before"), (after, "after")):
            assert (await doors.get(f"/v1/runs/{run}"))["goal"] == goal
            assert len((await doors.get(f"/v1/runs/{run}/events"))["data"]) == 1
        assert (await doors.get("/v1/runs/run_1"))["waiting_on"][0]["id"] == approval
        assert (await doors.get(f"/v1/approvals/{approval}"))["status"] == "pending"
        await doors.post(f"/v1/approvals/{approval}/decision", {"decision": "approve"})
        await doors.post(f"/v1/runs/{after}/cancel")
        told_ = await doors.get("/readyz")
        assert told_["status"] == "degraded"
        assert "Postgres" in told_["database"]
        answer = await doors.http.get("/v1/runs")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "retry-after" in answer.headers
        await server.start()
        async with asyncio.timeout(30):
            while (await doors.get("/readyz"))["projection_lag"] != 0:
                pass
        assert {run["id"] for run in (await doors.get("/v1/runs"))["data"]} == {before, after, "run_1"}


async def test_a_gateway_begins_without_postgres_and_finds_it_later(
    nats_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Postgres(tmp_path_factory.mktemp("late"))
    async with server:
        url = server.url
        server.kill()
        async with open_doors(nats_url, "", tmp_path, settings={"database_url": url}) as doors:
            await doors.post("/v1/runs", {"goal": "x"})
            assert (await doors.http.get("/v1/runs")).status_code == 503
            await server.start()
            async with asyncio.timeout(30):
                while (await doors.http.get("/v1/runs")).status_code != 200:
                    pass
