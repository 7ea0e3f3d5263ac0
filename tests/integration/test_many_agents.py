"""Many agents at once on several workers: none hangs, and no model call is made twice."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from actors.cassette import Cassette
from events.plan import Plan, PlanStep
from events.subjects import run_scope
from gateway.operations import CreateRun, Operations
from gateway.settings import Settings
from gateway.system import open_system, run_worker

AGENTS = 200
WORKERS = 3

READS = [{"tool": "list_files", "arguments": {"glob": f"{name}*"}} for name in "abc"]
CASSETTE: dict[str, Any] = {
    "delay": 0,
    "steps": [{"turns": [{"calls": READS}, {"calls": READS}, {"calls": [{"tool": "finish", "arguments": {"summary": "ok"}}]}]}],
}  # fmt: skip


async def test_200_agents_with_three_calls_at_once_on_three_workers_make_exactly_as_many_model_calls_as_turns(
    nats_url: str, tmp_path: Path
) -> None:
    settings = Settings(nats_url=nats_url, home=str(tmp_path / "home"), drain_seconds=1, max_agents=100)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        systems = [
            await stack.enter_async_context(
                open_system(settings, name=f"worker-{number}", cassette=Cassette.from_dict(CASSETTE))
            )
            for number in range(WORKERS)
        ]
        async with asyncio.TaskGroup() as group:
            for system in systems:
                group.create_task(run_worker(system, stop))
            plan = Plan(steps=tuple(PlanStep(id=f"s{n}x", role="backend-engineer", task="look") for n in range(AGENTS)))
            request = CreateRun(goal="two hundred at once", plan=plan)
            accepted, _ = await Operations(systems[0]).create_run("default", request, by="test")
            types: Counter[str] = Counter()
            workers: Counter[str] = Counter()
            async for batch in systems[0].facts.follow(run_scope("default", accepted.id), after=0):
                types.update(record.type for record in batch)
                workers.update(record.engine for record in batch)
                if types["run.succeeded.v1"] or types["run.failed.v1"]:
                    break
            stop.set()
    print(types, workers)
    assert types["run.succeeded.v1"] == 1
    assert types["agent.succeeded.v1"] == AGENTS
    assert types["model.requested.v1"] == types["model.responded.v1"] == 3 * AGENTS
    assert types["tool.requested.v1"] == types["tool.completed.v1"] == 7 * AGENTS
    assert types["model.taken_over.v1"] == types["model.refused.v1"] == types["tool.started.v1"] == 0
    assert len(workers) == WORKERS
