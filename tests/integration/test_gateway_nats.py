"""The NATS door, asked by nats-py as any program would: the same operations, the same answers, the same refusals."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from gateway.table import ROUTES
from tests.doors import Doors, open_doors
from tests.history import History
from tests.stories import Story, approval_of


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


@pytest.fixture
async def client(nats_url: str, doors: Doors) -> AsyncIterator[Client]:
    del doors  # the service stands before anyone asks it
    client = await nats.connect(nats_url)
    yield client
    await client.close()


async def ask(client: Client, operation: str, body: Any = b"", *, workspace: str = "default", **headers: str) -> Msg:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.request(f"cb.{workspace}.api.{operation}", sent, timeout=10, headers=headers or None)


async def answer(client: Client, operation: str, body: Any = b"", **more: Any) -> Any:
    reply = await ask(client, operation, body, **more)
    assert "Nats-Service-Error-Code" not in (reply.headers or {}), reply.data
    return json.loads(reply.data)


async def refusal(client: Client, operation: str, body: Any = b"", **more: Any) -> tuple[str, Any]:
    reply = await ask(client, operation, body, **more)
    assert reply.headers is not None
    told = json.loads(reply.data)
    assert reply.headers["Nats-Service-Error-Code"] == str(told["status"])
    assert reply.headers["Nats-Service-Error"].startswith(told["code"])
    return told["code"], told


async def test_plain_text_and_json_both_begin_a_run(client: Client, doors: Doors) -> None:
    reply = await ask(client, "runs.create", b"  write a haiku\n")
    assert reply.headers is not None
    assert reply.headers["Callboard-Status"] == "202"
    first = json.loads(reply.data)
    second = await answer(client, "runs.create", {"goal": "write a poem", "labels": {"kind": "verse"}})
    assert (first["goal"], second["goal"]) == ("write a haiku", "write a poem")
    assert [run["id"] for run in (await answer(client, "runs.list"))["data"]] == [second["id"], first["id"]]
    assert (await doors.get(f"/v1/runs/{first['id']}"))["by"] == "nats"


async def test_each_operation_answers_as_it_does_over_http(client: Client, doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("analyze")
    story.tick("analyze", 1)
    story.succeed("analyze", files={"a.md": "# A"}, artifacts={"a.md": "# A"})
    story.begin("backend")
    approval = approval_of(story.ask("backend"))
    letter = story.bury("backend").step
    await doors.tell(history)
    artifact = (await doors.get("/v1/runs/run_1/artifacts"))["data"][0]["id"]
    values = {"id": "run_1", "seq": "3", "name": "software", "type": "tool.completed"}
    same = 0
    for route in ROUTES:
        if route.handle is None or route.method != "GET":
            continue
        ids = {"approvals": approval, "artifacts": artifact, "dead-letters": letter}
        here = values | {"id": ids.get(route.noun, "run_1")}
        asked: dict[str, Any] = {name: here[name] for name in route.path_fields}
        over_http = await doors.http.get(route.path.format(**asked))
        if "seq" in asked:
            asked["seq"] = int(asked["seq"])
        if over_http.status_code >= 400:  # this run has no budget
            assert (await refusal(client, route.name, asked))[0] == over_http.json()["code"]
        else:
            assert await answer(client, route.name, asked) == over_http.json(), route.name
        same += 1
    assert same > 15


async def test_a_run_is_stopped_and_an_approval_given(client: Client, doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("analyze")
    approval = approval_of(story.ask("analyze"))
    await doors.tell(history)
    waiting = (await answer(client, "approvals.list", {"status": "pending"}))["data"]
    assert [each["id"] for each in waiting] == [approval]
    assert (await answer(client, "approvals.decide", {"id": approval, "decision": "reject", "by": "ann"}))[
        "by"
    ] == "ann"
    code, told = await refusal(client, "approvals.decide", {"id": approval, "decision": "approve", "by": "bob"})
    assert (code, told["status"], told["recorded"]["by"]) == ("already_decided", 409, "ann")
    assert (await answer(client, "runs.cancel", {"id": "run_1", "reason": "enough"}))["id"] == "run_1"
    assert (await doors.get("/v1/runs/run_1/events", params={"type": "run.cancel_requested"}))["data"]


async def test_a_key_replays_over_either_door(client: Client, doors: Doors) -> None:
    first = await answer(client, "runs.create", {"goal": "x"}, **{"Idempotency-Key": "k"})
    reply = await ask(client, "runs.create", {"goal": "x"}, **{"Idempotency-Key": "k"})
    assert reply.headers is not None
    assert reply.headers["Idempotent-Replayed"] == "true"
    assert json.loads(reply.data) == first
    over_http = await doors.http.post("/v1/runs", json={"goal": "x"}, headers={"Idempotency-Key": "k"})
    assert over_http.json() == first
    code, _ = await refusal(client, "runs.create", {"goal": "y"}, **{"Idempotency-Key": "k"})
    assert code == "idempotency_mismatch"


REFUSED: list[tuple[str, Any, str, int]] = [
    ("runs.create", b"", "invalid_request", 422),
    ("runs.create", b"{", "malformed_json", 400),
    ("runs.create", b'{"goal":' + b"[" * 100_000, "malformed_json", 400),
    ("runs.create", b"\xff\xfe", "malformed_text", 400),
    ("runs.create", b"[1]", "invalid_request", 422),
    ("runs.create", {"goal": "x", "gaol": 1}, "invalid_request", 422),
    ("runs.create", {"goal": "x" * 66_560}, "invalid_request", 422),
    ("runs.create", {"goal": "x", "blueprint": "nope"}, "unknown_blueprint", 422),
    ("runs.get", {}, "invalid_request", 422),
    ("runs.get", {"id": "run_none"}, "run_not_found", 404),
    ("runs.get", {"id": "*"}, "invalid_request", 422),
    ("runs.get", {"id": ">"}, "invalid_request", 422),
    ("runs.get", {"id": "a.b"}, "invalid_request", 422),
    ("runs.get", {"id": 7}, "invalid_request", 422),
    ("runs.get", b"not json", "malformed_json", 400),
    ("runs.list", {"limit": "5"}, "invalid_request", 422),
    ("runs.list", {"limit": 501}, "invalid_request", 422),
    ("runs.cancel", {"id": "run_none"}, "run_not_found", 404),
    ("approvals.decide", {"id": "apr_none", "decision": "approve"}, "approval_not_found", 404),
    ("approvals.decide", {"id": "apr_none", "decision": "perhaps"}, "invalid_request", 422),
    ("events.get", {"seq": -1}, "event_not_found", 404),
    ("events.get", {"seq": 10**30}, "event_not_found", 404),
]


async def test_a_bad_request_is_refused_with_the_problem(
    client: Client, doors: Doors, subtests: pytest.Subtests
) -> None:
    for operation, body, code, status in REFUSED:
        with subtests.test(f"{operation} {str(body)[:40]}"):
            found, told = await refusal(client, operation, body)
            assert (found, told["status"]) == (code, status)
    for workspace in ("*", ">", "Default", "x" * 65):
        with subtests.test(workspace):
            if workspace in ("*", ">"):
                continue  # the server itself refuses to publish to a wildcard
            code, _ = await refusal(client, "runs.create", b"a goal", workspace=workspace)
            assert code == "invalid_request"
    assert await doors.system.facts.end() == 0


async def test_workspaces_do_not_see_each_other(client: Client) -> None:
    mine = await answer(client, "runs.create", b"mine", workspace="one")
    assert (await answer(client, "runs.list", workspace="two"))["data"] == []
    code, _ = await refusal(client, "runs.get", {"id": mine["id"]}, workspace="two")
    assert code == "run_not_found"


async def test_an_answer_too_large_for_nats_says_so_and_events_fit_by_themselves(client: Client, doors: Doors) -> None:
    history = History("run_1")
    story = Story(history)
    story.start()
    story.begin("analyze")
    for turn in range(1, 30):
        story.tick("analyze", turn, text="x" * 50_000)
    await doors.tell(history)
    found: list[int] = []
    after: str | None = "0"
    while after is not None:
        page = await answer(client, "runs.events", {"id": "run_1", "after": int(after), "limit": 500})
        found += [event["seq"] for event in page["data"]]
        after = page["next_cursor"]
    assert found == [record.seq for record in history.records]
    for number in range(16):
        await answer(client, "runs.create", {"goal": f"{number} " + "y" * 60_000})
    code, told = await refusal(client, "runs.list", {"limit": 50})
    assert (code, told["status"]) == ("answer_too_large", 413)
    assert len((await answer(client, "runs.list", {"limit": 10}))["data"]) == 10


async def test_the_service_shows_itself_to_the_nats_tools(client: Client, doors: Doors) -> None:
    found = json.loads((await client.request("$SRV.INFO.callboard", b"", timeout=5)).data)
    assert found["name"] == "callboard"
    subjects = {endpoint["subject"]: endpoint for endpoint in found["endpoints"]}
    for operation in ("runs.create", "runs.list", "runs.get", "runs.status", "runs.steps", "runs.artifacts", "runs.events",
                      "runs.result", "runs.graph", "runs.cancel", "approvals.list", "approvals.get", "approvals.decide",
                      "runs.terminate", "runs.pause", "runs.resume", "artifacts.list", "artifacts.get", "blueprints.list"):  # fmt: skip
        assert f"cb.*.api.{operation}" in subjects
    schema = subjects["cb.*.api.runs.create"]["metadata"]["schema"]
    url, _, pointer = schema.partition("#")
    node: Any = (await doors.http.get(url)).json()
    for part in pointer.split("/")[1:]:
        node = node[part.replace("~1", "/")]
    assert node["operationId"] == "runs.create"
    await asyncio.gather(*(ask(client, "runs.get", {"id": "run_none"}) for _ in range(5)))
    stats = json.loads((await client.request("$SRV.STATS.callboard", b"", timeout=5)).data)
    counts = {endpoint["subject"]: endpoint for endpoint in stats["endpoints"]}["cb.*.api.runs.get"]
    assert (counts["num_requests"], counts["num_errors"]) == (5, 5)
