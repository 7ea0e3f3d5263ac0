"""Runs whose calls act on a target that counts: what the tests of single faults have in common."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from events.envelope import Record
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from tests.chaos import script
from tests.chaos.stage import target
from tests.chaos.tools import NAMES
from tests.system.processes import Process


@asynccontextmanager
async def acting(folder: Path) -> AsyncGenerator[dict[str, str]]:
    """Run a target with its ledger in `folder`; yields the settings that make a house act on it."""
    async with target(folder / "target.jsonl") as port:
        cassette = folder / "cassette.yaml"
        cassette.write_text(yaml.safe_dump(script.cassette(port)))
        yield {"CALLBOARD_CASSETTE": str(cassette), "CALLBOARD_TOOLS": ",".join(NAMES)}


def counted(folder: Path, *kinds: str) -> Counter[str]:
    """Return how often the target was asked, did something, met a key again, answered; for calls of these kinds, or all."""
    lines = [json.loads(line) for line in (folder / "target.jsonl").read_bytes().splitlines()]
    return Counter(str(line["what"]) for line in lines if not kinds or line["kind"] in kinds)


def one_step(*lines: str) -> dict[str, Any]:
    """Return the body of a run of one step, whose calls are `lines` as tests.chaos.script has them."""
    definition = script.blueprint([{"id": "one", "role": script.ROLE, "task": "\n".join(["Do:", *lines])}])
    return {"goal": "act", "definition": definition, "approvals": "auto"}


async def until(
    nats_url: str, run: str, found: Callable[[list[Record]], object], *, seconds: float = 60
) -> list[Record]:
    """Follow a run until what is there so far satisfies `found`, and return it."""
    records: list[Record] = []

    async def follow() -> None:
        async with connect(nats_url, name="test") as bus:
            async for batch in JetStreamLog(bus).follow(run_scope("default", run), after=0):
                for record in batch:
                    records.append(record)
                    if found(records):
                        return

    try:
        await asyncio.wait_for(follow(), seconds)
    except TimeoutError:
        lines = "\n".join(f"{one.seq} {one.type} to={one.to} of={one.causation} by={one.engine}" for one in records)
        raise AssertionError(f"not seen within {seconds:g} s; the run so far:\n{lines}") from None
    return records


def writer(processes: dict[str, Process], record: Record) -> Process:
    """Return the process that wrote a fact."""
    pid = record.engine.rpartition("-")[2]
    return next(one for one in processes.values() if one.process is not None and str(one.process.pid) == pid)
