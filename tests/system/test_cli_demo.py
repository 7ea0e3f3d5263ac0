"""`callboard demo` as a stranger sees it: at a terminal, in a pipe, and what it leaves."""

import asyncio
import json
import os
import pty
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deploy.ports import free_port
from tests.system.cli import ANSI, ARGV, Folder, environment

pytestmark = pytest.mark.timeout(180)
FIRST_EVENT_SECONDS_MAX = 3.0


async def test_in_a_pipe_it_ends_with_the_result_and_without_a_colour(tmp_path: Path) -> None:
    found = await Folder(tmp_path).run("demo", "--yes", "--speed", "20", "-o", "jsonl", seconds=90)
    assert found.code == 0, found.err
    assert not ANSI.search(found.out + found.err)
    assert "arning" not in found.err
    *envelopes, result = found.lines
    assert (result["type"], result["status"], result["is_error"]) == ("result", "succeeded", False)
    assert {line["type"] for line in envelopes} >= {"gate.failed.v1", "gate.passed.v1", "approval.decided.v1"}
    assert (tmp_path / "callboard-demo/app/server/__main__.py").is_file()
    assert "python3 -m app.server --port 8000" in found.err
    assert "(--yes)" in found.err
    assert re.search(r"trace [0-9a-f]{32}", found.err)


async def test_what_it_leaves_is_an_app_that_works(tmp_path: Path) -> None:
    found = await Folder(tmp_path).run("demo", "--speed", "20", "--keep", "mine", seconds=90)
    assert found.code == 0, found.err
    assert "no terminal to ask at" in found.err
    assert "✓ succeeded · 10/10 steps" in found.err
    assert "pretended" in found.err
    port = free_port()
    app = await asyncio.create_subprocess_exec(
        "python3", "-m", "app.server", "--port", str(port), cwd=tmp_path / "mine", env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert app.stdout is not None
    await app.stdout.readline()
    try:
        made = await asyncio.to_thread(asked, port, "POST", "/api/todos", {"title": "Buy milk"})
        assert made["title"] == "Buy milk"
        changed = await asyncio.to_thread(asked, port, "PATCH", f"/api/todos/{made['id']}", {"done": True})
        assert changed["done"] is True
        await asyncio.to_thread(asked, port, "DELETE", f"/api/todos/{made['id']}", None)
        assert (await asyncio.to_thread(asked, port, "GET", "/api/todos", None))["todos"] == []
    finally:
        app.terminate()
        await app.communicate()
    again = await Folder(tmp_path).run("demo", "--keep", "mine")
    assert (again.code, "is not empty" in again.err) == (2, True)


async def test_at_a_terminal_it_draws_asks_and_takes_the_answer(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS="100", LINES="40")
    process = await asyncio.create_subprocess_exec(
        *ARGV, "demo", "--speed", "20", cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = await asyncio.to_thread(play, ours, until=b"[e]dit: ")
    assert "project-manager wants to call publish_release" in screen
    assert '"name": "todo"' in screen
    assert "[l]ater" not in screen, "this gateway is gone with the demo: nobody could answer later"
    os.write(ours, b"a\n")
    screen += await asyncio.to_thread(play, ours, until=b"")
    assert await process.wait() == 0, screen[-2000:]
    assert "\x1b[?2026h" in screen
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "publish_release: approved by" in screen
    last = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", screen[screen.rindex("publish_release: approved") :])
    assert "✓ release" in last
    assert "✓ succeeded · 10/10 steps" in last
    assert "◌" not in last


async def test_the_first_event_is_there_within_three_seconds(tmp_path: Path) -> None:
    took = [await seconds_to_the_first_event(tmp_path)]
    while min(took) >= FIRST_EVENT_SECONDS_MAX and len(took) < 4:  # other tests may keep this machine busy
        took.append(await seconds_to_the_first_event(tmp_path))
    assert min(took) < FIRST_EVENT_SECONDS_MAX


async def seconds_to_the_first_event(folder: Path) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    process = await Folder(folder).start("demo", "--yes", "-o", "jsonl")
    assert process.stdout is not None
    await process.stdout.readline()
    took = loop.time() - began
    process.terminate()
    await process.communicate()
    return took


async def test_stopped_it_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, TMPDIR=str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir(mode=0o777)
    process = await folder.start("demo", "--yes", "-o", "jsonl")
    assert process.stdout is not None
    await process.stdout.readline()
    process.terminate()
    out, err = await process.communicate()
    del out
    assert process.returncode == 130, err.decode()
    assert "the demo was stopped" in err.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("callboard-demo")] == []


@pytest.mark.parametrize("after", [0.6, 0.9, 1.2, 1.6])
async def test_stopped_while_it_starts_it_leaves_nothing_either(tmp_path: Path, after: float) -> None:
    (tmp_path / "tmp").mkdir(mode=0o777)
    process = await Folder(tmp_path, TMPDIR=str(tmp_path / "tmp")).start("demo", "--yes", "-o", "jsonl")
    await asyncio.sleep(after)  # some moment of the start: importing, initdb, the servers
    process.terminate()
    _, err = await process.communicate()
    assert process.returncode in (130, -15), err.decode()
    if process.returncode == 130:
        assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("callboard")] == []


async def test_without_a_key_the_error_names_it_and_the_way_out(tmp_path: Path) -> None:
    found = await Folder(tmp_path).run("demo", "--model", "anthropic")
    assert found.code == 2
    assert "ANTHROPIC_API_KEY" in found.err
    assert "--model scripted" in found.err


def asked(port: int, method: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def play(terminal: int, *, until: bytes) -> str:
    """Read what a terminal shows until it shows that, or until its program ends."""
    said = b""
    while not until or until not in said:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    return said.decode(errors="replace")
