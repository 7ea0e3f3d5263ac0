"""Everything works with nothing but NATS: start a run, follow it readably, give an approval, see a queue per role."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from events.jetstream.connection import Bus, Msg, connect
from tests.system.processes import DEMO, house

FMT = Path(sys.executable).parent / "callboard"
SETTINGS = {"CALLBOARD_CASSETTE": str(DEMO), "CALLBOARD_SCRIPT_SPEED": "8"}


async def ask(bus: Bus, subject: str, body: Any) -> Any:
    """Send a request as `nats req` does, and return the answer's JSON."""
    return json.loads((await bus.request(subject, json.dumps(body).encode(), seconds=10)).body)


async def readable(body: bytes) -> str:
    """Pipe one message through `callboard fmt`, as `nats sub --translate` does."""
    process = await asyncio.create_subprocess_exec(
        str(FMT), "fmt", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(body)
    return out.decode()


@pytest.mark.timeout(180)
async def test_a_run_is_started_followed_approved_and_seen_in_the_queues_by_plain_nats(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as one, connect(one.nats.url, name="plain") as bus:
        live: asyncio.Queue[Msg] = asyncio.Queue()
        await bus.subscribe("live.cb.default.evt.>", live.put_nowait)
        goal = {"goal": "Build a small CRUD app for managing TODO items", "blueprint": "software"}
        run = (await ask(bus, "cb.default.api.runs.create", goal))["id"]
        lines: list[str] = []
        async with asyncio.timeout(150):
            while True:
                message = await live.get()
                if f".evt.{run}." not in message.subject:
                    continue
                if ".step.started." in message.subject or ".approval." in message.subject:
                    lines.append(await readable(message.body))
                if ".approval.requested." in message.subject:
                    (waiting,) = (await ask(bus, "cb.default.api.approvals.list", {"status": "pending"}))["data"]
                    decision = {"id": waiting["id"], "decision": "approve"}
                    decided = await ask(bus, "cb.default.api.approvals.decide", decision)
                    assert decided["decision"] == "approve"
                if ".run.succeeded." in message.subject:
                    break
        assert any("backend-engineer" in line for line in lines)
        assert any("publish_release" in line for line in lines)
        assert not any(line.startswith("{") for line in lines)
        consumers = await ask(bus, "$JS.API.CONSUMER.NAMES.CALLBOARD", {})
        assert {"run", "tool-local", "start-backend-engineer", "agent-backend-engineer"} <= set(consumers["consumers"])
