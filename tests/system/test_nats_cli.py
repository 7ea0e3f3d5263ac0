"""Everything works from the real `nats` CLI: start a run, follow it, give an approval, see the queues."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.system.processes import DEMO, House, house

NATS = shutil.which("nats")
REASON = "the nats CLI is not installed (go install github.com/nats-io/natscli/nats@latest)"
pytestmark = pytest.mark.skipif(NATS is None, reason=REASON)
FMT = f"{Path(sys.executable).parent}/callboard fmt"


@pytest.fixture
async def one(tmp_path: Path) -> AsyncGenerator[House]:
    settings = {"CALLBOARD_CASSETTE": str(DEMO), "CALLBOARD_SCRIPT_SPEED": "8"}
    async with house(tmp_path, settings=settings) as made:
        yield made


async def nats(url: str, *arguments: str) -> str:
    """Run the CLI and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        str(NATS), "--server", url, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.timeout(180)
async def test_a_run_is_started_followed_approved_and_seen_in_the_queues(one: House) -> None:
    url = one.nats.url
    body = json.dumps({"goal": "Build a small CRUD app for managing TODO items", "blueprint": "software"})
    accepted = json.loads(await nats(url, "req", "--raw", "cb.default.api.runs.create", body))
    run = accepted["id"]
    follower = await asyncio.create_subprocess_exec(
        str(NATS), "--server", url, "sub", f"live.cb.default.evt.{run}.>", "--translate", FMT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert follower.stdout is not None
    lines: list[str] = []
    approved = False
    async with asyncio.timeout(150):
        while b"run.succeeded" not in (line := await follower.stdout.readline()):
            lines.append(line.decode())
            if b"approval.requested" in line and not approved:
                waiting = json.loads(await nats(url, "req", "--raw", "cb.default.api.approvals.list", "{}"))
                (approval,) = waiting["data"]
                decision = json.dumps({"id": approval["id"], "decision": "approve"})
                decided = json.loads(await nats(url, "req", "--raw", "cb.default.api.approvals.decide", decision))
                assert decided["decision"] == "approve"
                approved = True
    follower.terminate()
    await follower.wait()
    assert approved
    assert any("backend" in line for line in lines)
    report = await nats(url, "consumer", "report", "CALLBOARD")
    assert "start-backend-engineer" in report
