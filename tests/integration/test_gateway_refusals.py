"""Bad requests: each refused with a problem that names the field, the rule and the way out, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.gateway import Limits
from tests.doors import Doors, open_doors

JSON = {"Content-Type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "hint", "errors"}


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


def step(id_: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "role": "coder", "task": "do it", "needs": list(needs), **more}


BODIES: list[tuple[str, bytes, int, str, str]] = [
    ("empty goal", b'{"goal":""}', 422, "invalid_request", "/goal"),
    ("blank goal", b'{"goal":" \\n "}', 422, "invalid_request", "/goal"),
    ("65 KiB goal", b'{"goal":"' + b"x" * 66_560 + b'"}', 422, "invalid_request", "/goal"),
    ("no goal", b"{}", 422, "invalid_request", "/goal"),
    ("no body", b"", 422, "invalid_request", "/goal"),
    ("goal of another type", b'{"goal":7}', 422, "invalid_request", "/goal"),
    ("goal with NUL", b'{"goal":"a\\u0000b"}', 422, "invalid_request", "/goal"),
    ("unknown field", b'{"goal":"x","gaol":1}', 422, "invalid_request", "/gaol"),
    ("unknown blueprint", b'{"goal":"x","blueprint":"nope"}', 422, "unknown_blueprint", ""),
    ("blueprint by path", b'{"goal":"x","blueprint":"../../etc/passwd"}', 422, "unknown_blueprint", ""),
    ("unknown model", b'{"goal":"x","model":"gpt-9"}', 422, "invalid_request", "/model"),
    ("approvals of no kind", b'{"goal":"x","approvals":"never"}', 422, "invalid_request", "/approvals"),
    ("label of another type", b'{"goal":"x","labels":{"a":1}}', 422, "invalid_request", "/labels/*"),
    ("too long a label", b'{"goal":"x","labels":{"a":"' + b"v" * 300 + b'"}}', 422, "invalid_request", "/labels/a"),
    ("limit out of range", b'{"goal":"x","limits":{"attempts_max":0}}', 422, "invalid_request", "/limits/attempts_max"),
    (
        "limit beyond reason",
        b'{"goal":"x","limits":{"approval_seconds":99999999999999999999}}',
        422,
        "invalid_request",
        "/limits/approval_seconds",
    ),
    (
        "cyclic plan",
        msgspec.json.encode({"goal": "x", "plan": {"steps": [step("a", "b"), step("b", "a")]}}),
        422,
        "invalid_request",
        "/plan/steps",
    ),
    (
        "unknown role",
        msgspec.json.encode({"goal": "x", "plan": {"steps": [step("a", role="wizard")]}}),
        422,
        "invalid_request",
        "/plan/steps/0/role",
    ),
    (
        "unknown field in a plan",
        msgspec.json.encode({"goal": "x", "plan": {"steps": [step("a", colour="red")]}}),
        422,
        "invalid_request",
        "/plan/steps/0/colour",
    ),
    ("cut off", b'{"goal":"x"', 400, "malformed_json", ""),
    ("not JSON", b"goal=x", 400, "malformed_json", ""),
    ("two values", b'{"goal":"x"} {}', 400, "malformed_json", ""),
    ("NaN", b'{"goal":"x","limits":{"attempts_max":NaN}}', 400, "malformed_json", ""),
    ("infinity", b'{"goal":"x","limits":{"attempts_max":1e999}}', 400, "malformed_json", ""),
    ("a lone surrogate", b'{"goal":"\\ud800"}', 400, "malformed_json", ""),
    ("not UTF-8", b'{"goal":"\xff\xfe"}', 400, "malformed_json", ""),
    ("100,000 deep", b'{"goal":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "malformed_json", ""),
    ("an array", b'["goal"]', 422, "invalid_request", ""),
    ("a text", b'"goal"', 422, "invalid_request", ""),
    ("null", b"null", 422, "invalid_request", ""),
    ("above 1 MiB", b'{"goal":"x","pad":"' + b"x" * (1024 * 1024) + b'"}', 413, "too_large", ""),
]


async def test_a_bad_body_is_refused_with_its_field_and_starts_nothing(doors: Doors, subtests: pytest.Subtests) -> None:
    for name, body, status, code, pointer in BODIES:
        with subtests.test(name):
            answer = await doors.http.post("/v1/runs", content=body, headers={**JSON, "Idempotency-Key": "k"})
            assert_problem(answer, status, code)
            if pointer:
                assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await doors.system.facts.end() == 0
    assert (await doors.get("/v1/runs"))["data"] == []


def assert_problem(answer: Any, status: int, code: str) -> None:
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told.keys() >= MEMBERS
    assert told["status"] == status
    assert told["request_id"] == answer.headers["request-id"]
    assert answer.headers["traceresponse"].startswith("00-")
    assert told["detail"]
    assert ("retry-after" in answer.headers) == told["retryable"]


async def test_another_content_type_is_not_taken(doors: Doors) -> None:
    for type_ in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = await doors.http.post("/v1/runs", content=b'{"goal":"x"}', headers={"Content-Type": type_})
        assert_problem(answer, 415, "unsupported_media_type")


BAD_IDS = [
    "*",
    ">",
    "a.b",
    "..%2F",
    "RUN_1",
    "run 1",
    "run_\u202e1",
    "run\uff0e1",
    "\U0001f600",
    "a" * 65,
    "%00",
    "%0d%0a",
]
PLACES = ["/v1/runs/{}", "/v1/runs/{}/status", "/v1/runs/{}/steps", "/v1/runs/{}/events", "/v1/runs/{}/events/stream",
          "/v1/runs/{}/result", "/v1/runs/{}/graph", "/v1/runs/{}/usage", "/v1/runs/{}/artifacts", "/v1/runs/{}/files",
          "/v1/runs/{}/files.zip", "/v1/approvals/{}", "/v1/artifacts/{}", "/v1/artifacts/{}/content",
          "/v1/artifacts/{}/versions", "/v1/approvals?run={}", "/v1/artifacts?run={}", "/v1/events?run={}",
          "/v1/blueprints/{}"]  # fmt: skip


async def test_an_id_that_is_none_is_refused_everywhere(doors: Doors, subtests: pytest.Subtests) -> None:
    for id_ in BAD_IDS:
        with subtests.test(id_):
            await assert_refused_everywhere(doors, id_)
    assert await doors.system.facts.end() == 0


async def assert_refused_everywhere(doors: Doors, id_: str) -> None:
    allowed = (404, 422) if "%2F" in id_ else (422,)
    for place in PLACES:
        answer = await doors.http.get(place.format(id_))
        assert answer.status_code in allowed, (place, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    for place, body in (
        ("/v1/runs/{}/cancel", {}),
        ("/v1/runs/{}/terminate", {}),
        ("/v1/runs/{}/pause", {}),
        ("/v1/runs/{}/resume", {}),
        ("/v1/approvals/{}/decision", {"decision": "approve"}),
    ):
        answer = await doors.http.post(place.format(id_), json=body)
        assert answer.status_code in allowed, (place, answer.text)


async def test_a_workspace_that_is_none_is_refused_everywhere(doors: Doors, subtests: pytest.Subtests) -> None:
    for workspace in ("a.b", "*", ">", "A", "x" * 65, "a b", ""):
        with subtests.test(workspace):
            await assert_workspace_refused(doors, {"Callboard-Workspace": workspace})
    assert await doors.system.facts.end() == 0


async def assert_workspace_refused(doors: Doors, headers: dict[str, str]) -> None:
    for place in ("/v1/runs", "/v1/runs/run_1", "/v1/approvals", "/v1/artifacts", "/v1/events", "/v1/events/stream",
                  "/v1/events/1", "/v1/artifacts/art_1"):  # fmt: skip
        assert_problem(await doors.http.get(place, headers=headers), 422, "invalid_request")
    assert_problem(await doors.http.post("/v1/runs", json={"goal": "x"}, headers=headers), 422, "invalid_request")


async def test_what_is_not_there_is_told_in_the_same_words_in_every_workspace(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x"}))["id"]
    other = {"Callboard-Workspace": "other"}
    for place in ("/v1/runs/{}", "/v1/runs/{}/events", "/v1/runs/{}/steps", "/v1/runs/{}/result", "/v1/runs/{}/files.zip",
                  "/v1/runs/{}/files", "/v1/events?run={}", "/v1/approvals?run={}"):  # fmt: skip
        theirs = await doors.http.get(place.format(run), headers=other)
        nobodys = await doors.http.get(place.format("run_none"), headers=other)
        assert_problem(theirs, 404, "run_not_found")
        assert theirs.json()["detail"].replace(run, "run_none") == nobodys.json()["detail"]
    answer = await doors.http.post(f"/v1/runs/{run}/cancel", headers=other)
    assert_problem(answer, 404, "run_not_found")
    assert_problem(await doors.http.get("/v1/events/1", headers=other), 404, "event_not_found")
    assert (await doors.get("/v1/runs", headers=other))["data"] == []
    assert (await doors.get("/v1/events", headers=other))["data"] == []
    assert (await doors.get(f"/v1/runs/{run}"))["status"] == "queued"


QUERIES = [
    ("/v1/runs?limit=0", "/limit"),
    ("/v1/runs?limit=501", "/limit"),
    ("/v1/runs?limit=many", "/limit"),
    ("/v1/runs?limit=1&limit=2", "/limit"),
    ("/v1/runs?after=xyz", "/after"),
    ("/v1/runs?after=1", "/after"),
    ("/v1/runs?status=gone", "/status"),
    ("/v1/runs?label=team", "/label"),
    ("/v1/runs?q=" + "x" * 201, "/q"),
    ("/v1/runs?blueprint=%00", "/blueprint"),
    ("/v1/runs?page=2", "/page"),
    ("/v1/events?after=-1", "/after"),
    ("/v1/events?type=nonsense", "/type"),
    ("/v1/events?type=*", "/type"),
    ("/v1/events?limit=501", "/limit"),
    ("/v1/events/x", "/seq"),
    ("/v1/approvals?status=maybe", "/status"),
    ("/v1/approvals?after=%F0%9F%98%80", "/after"),
    ("/v1/artifacts?limit=-1", "/limit"),
    ("/v1/events/stream?deltas=2", "/deltas"),
    ("/healthz?verbose=1", "/verbose"),
]


async def test_a_bad_query_is_refused_with_its_field(doors: Doors) -> None:
    for query, pointer in QUERIES:
        answer = await doors.http.get(query)
        assert_problem(answer, 422, "invalid_request")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], query
    assert_problem(await doors.http.get("/v1/runs?q=%ff"), 400, "malformed_query")
    assert_problem(await doors.http.post("/v1/runs?wait=1", json={"goal": "x"}), 422, "invalid_request")


async def test_other_paths_and_methods_are_problems_too(doors: Doors) -> None:
    assert_problem(await doors.http.get("/v1/nothing"), 404, "route_not_found")
    assert_problem(await doors.http.delete("/v1/runs"), 405, "method_not_allowed")
    assert_problem(await doors.http.put("/v1/runs/run_1", json={}), 405, "method_not_allowed")
    answer = await doors.http.head("/v1/runs")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_decision_that_cannot_be_is_refused(doors: Doors) -> None:
    path = "/v1/approvals/apr_none/decision"
    for body, pointer in [
        ({}, "/decision"),
        ({"decision": "maybe"}, "/decision"),
        ({"decision": "approve", "id": "apr_other"}, "/id"),
        ({"decision": "approve", "arguments": [1]}, "/arguments"),
    ]:
        answer = await doors.http.post(path, json=body)
        assert_problem(answer, 422, "invalid_request")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert_problem(await doors.http.post(path, json={"decision": "approve"}), 404, "approval_not_found")
    assert_problem(await doors.http.get("/v1/approvals/apr_none"), 404, "approval_not_found")


async def raw(doors: Doors, data: bytes) -> bytes:
    """Send bytes and return the first of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(doors.url.rpartition(":")[2]))
    try:
        writer.write(data)
        async with asyncio.timeout(15):
            return await reader.read(65_536)
    except ConnectionError:
        return b""
    finally:
        writer.close()


NO_HTTP = [
    ("a long header", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Pad: " + b"x" * 100_000 + b"\r\n\r\n"),
    ("many headers", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000))),
    (
        "two framings",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("nonsense", b"NONSENSE\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
]


async def test_what_is_not_http_gets_no_further(doors: Doors, subtests: pytest.Subtests) -> None:
    for name, data in NO_HTTP:
        with subtests.test(name):
            answer = await raw(doors, data)
            assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")), answer[:200]
            assert (await doors.http.get("/healthz")).status_code == 200
    assert await doors.system.facts.end() == 0


async def test_a_request_that_never_gets_done_is_left(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path, limits=Limits(headers_seconds_max=0.3)) as doors:
        assert await raw(doors, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ") == b""
        assert (await doors.http.get("/healthz")).status_code == 200
