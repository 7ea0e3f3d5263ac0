"""A goal goes in at a door; run, agent and tool actors work on it over a real log; files that work come out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.cassette import Cassette
from events.envelope import Record
from events.plan import Gate, Plan, PlanStep
from events.subjects import run_scope
from gateway.operations import CreateRun, Operations
from gateway.settings import Settings
from gateway.system import System, open_system, run_worker

WORDS = "The first step writes, the second reads and runs, the gate judges."

CASSETTE: dict[str, Any] = {
    "name": "first light",
    "delay": 0,
    "steps": [
        {
            "step": "write",
            "turns": [
                {"calls": [{"tool": "write_file", "arguments": {"path": "hello.py", "content": "print('hello')\n"}}]},
                {"calls": [{"tool": "finish", "arguments": {"summary": "wrote hello.py"}}]},
            ],
        },
        {
            "step": "use",
            "turns": [
                {
                    "calls": [
                        {"tool": "read_file", "arguments": {"path": "hello.py"}},
                        {"tool": "list_files", "arguments": {}},
                    ]
                },
                {"calls": [{"tool": "run_command", "arguments": {"argv": ["python3", "hello.py"]}}]},
                {"calls": [{"tool": "finish", "arguments": {"summary": "ran it"}}]},
            ],
        },
        {
            "step": "judge",
            "turns": [
                {
                    "calls": [
                        {"tool": "submit_verdict", "arguments": {"passed": True, "summary": "fine", "findings": []}}
                    ]
                }
            ],
        },
    ],
}

PLAN = Plan(
    steps=(
        PlanStep(id="write", role="backend-engineer", task="write it", expects=("hello.py",)),
        PlanStep(id="use", role="backend-engineer", task="use it", needs=("write",)),
        PlanStep(
            id="judge", role="code-reviewer", task="judge it", needs=("use",), gate=Gate(rework=("write",)),
            validate=(("python3", "hello.py"),),
        ),
    )
)  # fmt: skip


@asynccontextmanager
async def working(system: System) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_worker(system, stop))
        try:
            yield
        finally:
            stop.set()


@pytest.fixture
async def system(nats_url: str, tmp_path: Path) -> AsyncIterator[System]:
    settings = Settings(nats_url=nats_url, home=str(tmp_path / "home"), drain_seconds=1)
    async with open_system(settings, name="test", cassette=Cassette.from_dict(CASSETTE)) as system:
        yield system


async def records_to_the_end(system: System, run: str) -> list[Record]:
    """Follow a run until its terminal fact."""
    found: list[Record] = []
    async for batch in system.facts.follow(run_scope("default", run), after=0):
        for record in batch:
            found.append(record)
            if record.type in ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1"):
                return found
    return found


async def test_three_steps_go_from_goal_to_files(system: System) -> None:
    async with working(system):
        accepted, replayed = await Operations(system).create_run("default", CreateRun(goal=WORDS, plan=PLAN), by="test")
        assert not replayed
        records = await asyncio.wait_for(records_to_the_end(system, accepted.id), 30)
    for record in records:
        print(record.seq, record.address.step[-6:], record.address.call[-6:], record.type, record.to, record.causation)
    assert records[-1].type == "run.succeeded.v1"
    state = await Operations(system).run_state("default", accepted.id)
    assert set(state.head) == {"hello.py"}
    content = await system.blobs.get("default", state.head["hello.py"].sha)
    assert content == b"print('hello')\n"
