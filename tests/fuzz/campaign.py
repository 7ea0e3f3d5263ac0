"""One campaign: a house of processes with a run that waits for a human and one that has ended, and the barrage on them."""

import secrets
from pathlib import Path

import msgspec

from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.subjects import run_scope
from events.tool import ApprovalRequested
from tests.fuzz.commands import Fuzz
from tests.fuzz.drive import Barrage, resident_mib
from tests.system.processes import House, house
from tests.system.small import definition

CASSETTE = """
delay: 0
steps:
  - step: analyze
    turns:
      - calls: [{tool: publish_release, arguments: {name: app, version: "1", include: ["*"]}}]
      - calls: [{tool: finish, arguments: {summary: done}}]
  - turns:
      - calls: [{tool: finish, arguments: {summary: done}}]
"""
WARM = 2_000
GROWTH_MIB_MAX = 150.0
"""For mailboxes, letters and the allocator: what a million junk commands may not pass any more than ten thousand."""


class Told(msgspec.Struct):
    """How it went."""

    seed: int
    answers: dict[str, int]
    silent: list[str]
    grown_mib: dict[str, float]
    worker_starts: int


async def campaign(folder: Path, *, count: int, seconds: float = 0, seed: int | None = None) -> Told:
    """Send `count` messages; raises AssertionError naming the seed if a promise is broken."""
    seed = secrets.randbits(32) if seed is None else seed
    (folder / "cassette.yaml").write_text(CASSETTE)
    async with (
        house(folder, settings={"CALLBOARD_CASSETTE": str(folder / "cassette.yaml")}) as one,
        connect(one.nats.url, name="fuzz") as bus,
    ):
        log = JetStreamLog(bus)
        ended = await normal_run(one, log)
        waiting, approvals = await waiting_run(one, log)
        known = [*await places(log, ended), *await places(log, waiting)]
        barrage = Barrage(bus)
        try:
            await barrage.send(Fuzz(seed, known, approvals), count=min(WARM, count))
            before = {name: resident_mib(pid_of(one, name)) for name in one.processes}
            await barrage.send(Fuzz(seed + 1, known, approvals), count=count, seconds=seconds)
        except Exception as fault:
            print(f"seed {seed}, after {sum(barrage.told.values())} answers: {fault!r}")
            raise
        grown = {name: resident_mib(pid_of(one, name)) - before[name] for name in one.processes}
        assert await normal_run(one, log), f"seed {seed}: no run went well any more"
        return Told(
            seed=seed,
            answers=dict(sorted(barrage.told.items())),
            silent=[f"{sent.subject[:200]} {sent.body[:200]!r} {sent.headers}" for sent in barrage.silent],
            grown_mib=grown,
            worker_starts=one.processes["worker-1"].starts,
        )


def pid_of(one: House, name: str) -> int:
    process = one.processes[name].process
    assert process is not None
    assert process.returncode is None, f"{name} died:\n{one.processes[name].tail()}"
    return process.pid


async def normal_run(one: House, log: JetStreamLog) -> str:
    """Run a goal to its end, its approvals given by policy; return its id."""
    run = await one.create_run(goal=f"normal {secrets.token_hex(4)}", definition=definition(), approvals="auto")
    async for batch in log.follow(run_scope("default", run), after=0):
        for record in batch:
            if _is_end(record.type):
                assert record.type == "run.succeeded.v1", record
                return run
    raise AssertionError


def _is_end(type_: str) -> bool:
    return type_ in ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")


async def waiting_run(one: House, log: JetStreamLog) -> tuple[str, list[str]]:
    """Start a run that waits for a human; return its id and the approval's."""
    run = await one.create_run(goal="waits", definition=definition(), approvals="all")
    async for batch in log.follow(run_scope("default", run), after=0):
        asked = [record.fact.approval for record in batch if isinstance(record.fact, ApprovalRequested)]
        if asked:
            return run, asked
    raise AssertionError


async def places(log: JetStreamLog, run: str) -> list[tuple[str, str, str]]:
    """Return the addresses of all actors of a run, as tokens."""
    records = await log.load(run_scope("default", run))
    return sorted({(record.address.run, record.address.step, record.address.call) for record in records})
