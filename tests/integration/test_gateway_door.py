"""The door itself: who is let in, where it listens, what it says of itself."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.codec import TYPES
from gateway.serve import PortInUse, serve
from gateway.settings import Settings, SettingsError
from gateway.system import open_system
from gateway.table import ROUTES
from tests.doors import Doors, open_doors

KEY = "correct-horse-battery-staple"


@pytest.fixture
async def doors(nats_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, "", tmp_path) as doors:
        yield doors


async def test_with_a_key_only_who_has_it_comes_in(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path, settings={"api_key": KEY}) as doors:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
        ):
            for method, path in (("GET", "/v1/runs"), ("POST", "/v1/runs"), ("GET", "/v1/events/stream"),
                                 ("GET", "/v1/schemas"), ("GET", "/v1/nothing")):  # fmt: skip
                answer = await doors.http.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["content-type"] == "application/problem+json"
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert (await doors.http.get(path)).status_code == 200
        run = await doors.post("/v1/runs", {"goal": "x"}, headers={"Authorization": f"Bearer {KEY}"})
        shown = await doors.get(f"/v1/runs/{run['id']}", headers={"Authorization": f"bearer {KEY}"})
        assert shown["by"] == "api-key"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_an_open_address_without_a_key_is_refused_before_anything_listens(
    nats_url: str, tmp_path: Path, host: str
) -> None:
    settings = Settings(nats_url=nats_url, home=str(tmp_path), host=host, port=0)
    async with open_system(settings) as system:
        with pytest.raises(SettingsError, match="CALLBOARD_API_KEY"):
            await serve(system, None, asyncio.Event())


async def test_an_open_address_with_a_key_takes_any_name(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path, settings={"api_key": KEY, "host": "0.0.0.0"}) as doors:
        doors.http.base_url = doors.url.replace("0.0.0.0", "127.0.0.1")
        headers = {"Authorization": f"Bearer {KEY}", "Host": "callboard.example.com"}
        assert (await doors.http.post("/v1/runs", json={"goal": "x"}, headers=headers)).status_code == 202


async def test_pages_of_other_origins_can_do_nothing(doors: Doors) -> None:
    own = doors.url
    for headers in (
        {"Host": "evil.example.com"},
        {"Host": "127.0.0.1.evil.example.com"},
        {"Host": "[::2]"},
        {"Host": ""},
    ):
        answer = await doors.http.get("/v1/runs/run_1", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_host"), headers
    for headers in (
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = await doors.http.post("/v1/runs", json={"goal": "x"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), headers
    assert await doors.system.facts.end() == 0
    for headers in ({"Origin": own}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert (await doors.http.post("/v1/runs", json={"goal": "x"}, headers=headers)).status_code == 202


async def test_a_port_in_use_is_one_clear_line(nats_url: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = Settings(nats_url=nats_url, home=str(tmp_path), port=port)
        async with open_system(settings) as system:
            with pytest.raises(PortInUse, match=rf"port {port} on 127.0.0.1 is in use.*--port") as told:
                await serve(system, None, asyncio.Event())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("203.0.113.7", 0, "no address of this machine"),
        ("no-such-host.invalid", 0, "cannot listen"),
        ("127.0.0.1", 70_000, "cannot listen"),
    ],
)
async def test_an_address_that_cannot_be_is_told(
    nats_url: str, tmp_path: Path, host: str, port: int, words: str
) -> None:
    settings = Settings(nats_url=nats_url, home=str(tmp_path), host=host, port=port, api_key=KEY)
    async with open_system(settings) as system:
        with pytest.raises(SettingsError, match=words):
            await serve(system, None, asyncio.Event())


async def test_stopping_lets_a_request_in_hand_end(doors: Doors) -> None:
    asked = asyncio.create_task(doors.http.post("/v1/runs", json={"goal": "x"}, headers={"Prefer": "wait=30"}))
    async with asyncio.timeout(10):
        while not await doors.system.facts.end():
            pass
        await doors.end()
        answer = await asked
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    await doors.begin()


async def test_a_trace_goes_through_the_door(doors: Doors) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await doors.http.get("/healthz", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert re.fullmatch(rf"00-{trace}-[0-9a-f]{{16}}-00", answer.headers["traceresponse"])
    one, two = [(await doors.http.get("/healthz")).headers["traceresponse"] for _ in range(2)]
    assert one != two


async def test_the_openapi_document_says_what_the_table_does(doors: Doors) -> None:
    document = await doors.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {(route.method, route.path) for route in ROUTES}
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
    for (_, path), operation in operations.items():
        declared = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        assert len({(each["name"], each["in"]) for each in operation["parameters"]}) == len(operation["parameters"])
        assert operation["summary"]
        if path.startswith("/v1/"):
            assert "application/problem+json" in operation["responses"]["422"]["content"]
    for ref in _refs(document):
        node: Any = document
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
    body = operations["POST", "/v1/approvals/{id}/decision"]["requestBody"]["content"]["application/json"]["schema"]
    assert "id" not in body["properties"]
    assert body["required"] == ["decision"]


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for inner in value.values() for ref in _refs(inner)]
    return [ref for inner in value for ref in _refs(inner)] if isinstance(value, list) else []


async def test_the_documentation_needs_nothing_from_elsewhere(doors: Doors) -> None:
    for path in ("/docs", "/redoc"):
        answer = await doors.http.get(path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<script" not in answer.text
        assert re.findall(r"(?:src|href)=['\"]?(?:https?:)?//", answer.text) == []
        for route in ROUTES:
            assert route.path in answer.text
    assert (await doors.http.get("/")).headers["location"] == "/docs"


async def test_each_type_of_event_has_its_schema(doors: Doors) -> None:
    listed = (await doors.get("/v1/schemas"))["data"]
    assert listed == sorted(TYPES)
    for type_ in listed:
        schema = await doors.get(f"/v1/schemas/{type_}")
        assert schema["$id"] == f"/v1/schemas/{type_}"
        assert await doors.get(f"/v1/schemas/{type_.removesuffix('.v1')}") == schema
    answer = await doors.http.get("/v1/schemas/tool.exploded")
    assert (answer.status_code, answer.json()["code"]) == (404, "schema_not_found")


async def test_what_ships_can_be_looked_at(doors: Doors) -> None:
    listed = (await doors.get("/v1/blueprints"))["data"]
    assert "software" in [blueprint["name"] for blueprint in listed]
    shown = await doors.get("/v1/blueprints/software")
    assert {role["name"] for role in shown["roles"]} >= {step["role"] for step in shown["plan"]["steps"]}
    answer = await doors.http.get("/v1/blueprints/nope")
    assert (answer.status_code, answer.json()["code"]) == (404, "blueprint_not_found")
