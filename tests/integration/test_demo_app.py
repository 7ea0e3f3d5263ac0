"""The demo's app: its bug is found by the review's command, mended by the second attempt, and what comes out really works."""

import asyncio
import json
import math
import os
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from actors.scripted import ScriptedModel, load_cassette
from events.fact import Verdict
from gateway.blueprint import SHIPPED, load
from tests.unit.blueprints.rehearsal import Rehearsal

GOAL = "Build a small CRUD app for managing TODO items"
UNIT = ("python3", "-m", "unittest", "discover", "-s", "tests")
ACCEPTANCE = ("python3", "-m", "unittest", "discover", "-s", "acceptance")


Files = dict[str, str]


def _rehearsal(folder: Path, files: Files | None = None, *, rejected: str = "") -> Rehearsal:
    model = ScriptedModel(load_cassette(SHIPPED / "software" / "demo" / "cassette.yaml"), speed=math.inf)
    software = load("software")
    assert software.plan
    return Rehearsal(
        software.plan, software.roles, model=model, folder=folder, goal=GOAL, files=files, rejected=rejected
    )


async def _verdict(rehearsal: Rehearsal, key: str, *, attempt: int = 1) -> Verdict:
    verdict = await rehearsal.play(key, attempt=attempt)
    assert verdict is not None
    return verdict


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """All that was there when the first code review began."""
    rehearsal = _rehearsal(tmp_path_factory.mktemp("built"))

    async def build() -> None:
        for key in ("requirements", "plan", "ux", "architecture", "schema", "backend", "frontend"):
            await rehearsal.play(key)

    asyncio.run(build())
    return rehearsal


@pytest.fixture(scope="module")
def mended(built: Rehearsal, tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """All that was there when the second code review began; the first one's verdict sent it back."""
    rehearsal = _rehearsal(tmp_path_factory.mktemp("mended"), built.files)

    async def mend() -> None:
        first = await _verdict(rehearsal, "code-review")
        assert not first.passed
        assert {finding.step for finding in first.findings} == {"backend"}
        await rehearsal.play("backend", attempt=2, findings=first.findings)

    asyncio.run(mend())
    return rehearsal


def test_the_first_attempt_passes_its_own_tests_and_fails_the_contract(built: Rehearsal):
    assert built.run(UNIT)[0] == 0
    code, text = built.run(ACCEPTANCE)
    assert code == 1
    assert text.count("FAIL: ") == 1
    assert "test_r5_a_finished_todo_can_be_reopened" in text
    assert built.failures == ["backend: read_file: not_found: there is no file 'docs/schema.md'"]


def test_the_second_attempt_mends_what_the_review_found(mended: Rehearsal):
    assert mended.run(UNIT)[0] == 0
    assert mended.run(ACCEPTANCE)[0] == 0


async def test_the_mended_code_passes_both_reviews_and_is_released(built: Rehearsal, mended: Rehearsal, tmp_path: Path):
    rehearsal = _rehearsal(tmp_path, mended.files)
    assert (await _verdict(rehearsal, "code-review", attempt=2)).passed
    assert (await _verdict(rehearsal, "security-review")).passed
    await rehearsal.play("release")
    assert "not published" not in rehearsal.files["RELEASE.md"]
    assert built.artifacts | mended.artifacts | rehearsal.artifacts == set(rehearsal.files)
    assert 30 <= sum(len(played.answers) for played in (built, mended, rehearsal)) <= 70


async def test_code_that_is_not_mended_is_not_passed(built: Rehearsal, tmp_path: Path):
    assert not (await _verdict(_rehearsal(tmp_path, built.files), "code-review", attempt=2)).passed


async def test_a_dangerous_call_does_not_pass_the_security_review(mended: Rehearsal, tmp_path: Path):
    rehearsal = _rehearsal(tmp_path, mended.files)
    rehearsal.files["app/static/app.js"] += "\ndocument.body.innerHTML = location.hash;\n"
    assert not (await _verdict(rehearsal, "security-review")).passed


async def test_a_rejected_release_is_told_in_its_notes(mended: Rehearsal, tmp_path: Path):
    rehearsal = _rehearsal(tmp_path, mended.files, rejected="rejected: not before Monday")
    await rehearsal.play("release")
    assert "not published" in rehearsal.files["RELEASE.md"]
    assert "not before Monday" in rehearsal.files["RELEASE.md"]


async def test_the_app_starts_and_creates_lists_updates_and_deletes_a_todo(mended: Rehearsal, tmp_path: Path):
    _rehearsal(tmp_path, mended.files).lay_out()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.server", "--port", "0", "--db", "todo.db"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath},
    )
    try:
        assert server.stdout is not None
        words = (await asyncio.wait_for(server.stdout.readline(), 20)).decode()
        port = int(words.partition("127.0.0.1:")[2].partition("/")[0])
        await asyncio.to_thread(_use, port)
    finally:
        server.terminate()
        await server.communicate()


def _use(port: int) -> None:
    status, todo = _ask(port, "POST", "/api/todos", {"title": "Water the plants"})
    assert status == 201
    place = f"/api/todos/{todo['id']}"
    assert _ask(port, "GET", "/api/todos") == (200, {"todos": [todo]})
    for done in (True, False):
        status, changed = _ask(port, "PATCH", place, {"done": done})
        assert (status, changed["done"]) == (200, done)
    assert _ask(port, "DELETE", place) == (204, None)
    assert _ask(port, "GET", place)[0] == 404
    for path in ("/", "/static/app.js", "/static/style.css"):
        assert _ask(port, "GET", path)[0] == 200


def _ask(port: int, method: str, path: str, fields: object = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    body = None if fields is None else json.dumps(fields)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    is_json = data and response.headers.get_content_type() == "application/json"
    return response.status, json.loads(data) if is_json else None
