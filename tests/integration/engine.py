"""A log, workers and a cassette in one process, for tests that watch how a run goes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from actors.cassette import Cassette
from events.clock import Clock
from events.envelope import Record
from events.plan import PlanStep
from events.subjects import run_scope
from gateway.blueprint import BlueprintDefinition, RoleFile
from gateway.operations import CreateRun, Operations
from gateway.settings import Settings
from gateway.system import System, open_system, run_worker
from toolbox.tool import Tool

ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1", "run.timed_out.v1")
ROLE = "dev"
REVIEWER = "reviewer"


def say(tool: str, **arguments: Any) -> dict[str, Any]:
    """Return one call of a cassette."""
    return {"tool": tool, "arguments": arguments}


def turns(*answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the turns of a cassette step, each with its calls; `finish` is added as the last."""
    return [*({"calls": list(calls)} for calls in answers), {"calls": [say("finish", summary="done")]}]


def cassette(**steps: list[dict[str, Any]]) -> Cassette:
    """Return a cassette with the turns of each step by its key (`_` for `-`)."""
    lines = [{"step": key.replace("_", "-"), "turns": lines} for key, lines in steps.items()]
    return Cassette.from_dict({"delay": 0, "steps": lines})


def step(id_: str, *needs: str, **more: Any) -> PlanStep:
    return PlanStep(id=id_, role=more.pop("role", ROLE), task=f"do {id_}", needs=needs, **more)


keepers: list[Callable[[System], Awaitable[None]]] = []
"""Who wants to see the log of a rig whose test went well (tests/histories)."""


class Rig:
    """Systems on one log: the first is the door's, the others are workers'."""

    def __init__(self, systems: list[System], group: asyncio.TaskGroup) -> None:
        self.systems = systems
        self.group = group
        self.workers: list[asyncio.Task[None]] = []
        self.stops: list[asyncio.Event] = []

    @property
    def door(self) -> Operations:
        return Operations(self.systems[0])

    def work(self, number: int, *, roles: frozenset[str] | None = None) -> None:
        """Begin to work with system `number`."""
        stop = asyncio.Event()
        self.stops.append(stop)
        self.workers.append(self.group.create_task(run_worker(self.systems[number], stop, roles=roles)))

    async def start(self, *steps: PlanStep, **more: Any) -> str:
        """Start a run and return its id."""
        roles = (RoleFile(ROLE, "does it all", "Do it."), RoleFile(REVIEWER, "judges", "Judge it."))
        definition = BlueprintDefinition(name="test", steps=steps, roles=roles)
        request = CreateRun(goal="test", definition=definition, **more)
        accepted, _ = await self.door.create_run("default", request, by="test")
        return accepted.id

    async def until(self, run: str, found: Callable[[Record], bool], *, seconds: float = 60) -> list[Record]:
        """Follow a run until a fact that `found` accepts; return all up to it."""
        seen: list[Record] = []

        async def follow() -> list[Record]:
            async for batch in self.systems[0].facts.follow(run_scope("default", run), after=0):
                for record in batch:
                    seen.append(record)
                    if found(record):
                        return seen
            return seen

        try:
            return await asyncio.wait_for(follow(), seconds)
        except TimeoutError:
            lines = "\n".join(f"{one.seq} {one.address} {one.type} to={one.to} of={one.causation}" for one in seen)
            raise AssertionError(f"not seen within {seconds} s; the run so far:\n{lines}") from None

    async def end(self, run: str, *, seconds: float = 60) -> list[Record]:
        """Follow a run to its end."""
        return await self.until(run, lambda record: record.type in ENDS, seconds=seconds)


@asynccontextmanager
async def rig(
    nats_url: str,
    home: Path,
    script: Cassette,
    *,
    workers: int = 1,
    tools: Mapping[str, Tool] | None = None,
    urls: Sequence[str] = (),
    clocks: Sequence[Clock] = (),
    **settings: Any,
) -> AsyncGenerator[Rig, None]:
    """Open a door's system and `workers` more, each working, at `urls` if given; they drain at the end.

    `clocks` are those of the first of the systems.
    """
    options = [
        Settings(nats_url=url, home=str(home), drain_seconds=1, **settings)
        for url in (nats_url, *(urls or [nats_url] * workers))
    ]
    given = dict(enumerate(clocks))
    async with AsyncExitStack() as stack:
        systems = [
            await stack.enter_async_context(
                open_system(one, name=f"system-{n}", cassette=script, tools=tools, clock=given.get(n))
            )
            for n, one in enumerate(options)
        ]
        async with asyncio.TaskGroup() as group:
            made = Rig(systems, group)
            for number in range(1, workers + 1):
                made.work(number)
            try:
                yield made
                for keep in keepers:
                    await keep(systems[0])
            finally:
                for stop in made.stops:
                    stop.set()


def types(records: list[Record]) -> list[str]:
    return [record.type.removesuffix(".v1") for record in records]
