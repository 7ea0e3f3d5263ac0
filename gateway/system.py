"""The composition root: everything a process works with, opened in order and closed in reverse. Tests pass their own parts here."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from actors.cassette import Cassette
from actors.mailbox import Mailboxes
from actors.perform import Performer
from actors.runtime import Limits, Runtime
from actors.turn import Engine
from events.blobs import Blobs, FileBlobs
from events.clock import Clock, SystemClock
from events.jetstream.clock import LogClock
from events.jetstream.connection import Bus, connect
from events.jetstream.inbox import Inbox
from events.jetstream.log import JetStreamLog
from events.jetstream.queues import Queues
from events.jetstream.streams import ensure_streams
from events.log import Log, LogUnavailable
from events.plan import Plan, PlanStep, faults
from events.subjects import Address, delta_subject
from gateway.models import Models
from gateway.open_letters import OpenLetters
from gateway.settings import Settings
from toolbox.named import with_named
from toolbox.sandbox import Sandbox
from toolbox.sandbox import probe as probe_sandbox
from toolbox.tool import Tool

AGAIN_SECONDS: Final = 0.5
PACKAGE: Final = "callboard"

log = structlog.get_logger()


@cache
def package_version() -> str:
    """Return the installed version, `0` from a bare checkout."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "0"


class System:
    """The open parts of one process."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        *,
        blobs: Blobs,
        clock: Clock,
        models: Models,
        tools: Mapping[str, Tool],
        name: str,
    ) -> None:
        self.settings = settings
        self.bus = bus
        self.blobs = blobs
        self.clock = clock
        self.models = models
        self.tools = tools
        self.facts: Log = (log := JetStreamLog(bus))
        self.room = log.room
        self.inbox = Inbox(bus)
        self.queues = Queues(bus, ack_wait_seconds=settings.ack_wait_seconds)
        self.boxes = Mailboxes(self.facts)
        self.open_letters = OpenLetters(self.facts)
        self.engine = Engine(
            facts=self.facts,
            inbox=self.inbox,
            queues=self.queues,
            clock=clock,
            boxes=self.boxes,
            name=f"callboard/{package_version()} {name}",
            blobs=blobs,
        )


@asynccontextmanager
async def open_system(
    settings: Settings,
    *,
    name: str = "",
    clock: Clock | None = None,
    blobs: Blobs | None = None,
    models: Models | None = None,
    cassette: Cassette | None = None,
    tools: Mapping[str, Tool] | None = None,
    lost: asyncio.Event | None = None,
) -> AsyncGenerator[System]:
    """Connect to the log, check its streams and yield the system; `lost` is set if the connection closes for good.

    Raises ToolNotLoaded, NatsUnreachable, ServerTooOld, StreamDiffers.
    """
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    async with connect(
        settings.nats_url,
        name=f"callboard {name}",
        credentials=Path(settings.nats_creds) if settings.nats_creds else None,
        on_closed=lost.set if lost else None,
    ) as bus:
        await ensure_streams(
            bus,
            replicas=settings.replicas,
            ack_wait_seconds=settings.ack_wait_seconds,
            log_bytes_max=settings.log_bytes_max,
        )
        counting = LogClock(bus, clock or SystemClock())
        await counting.look()
        keeping = asyncio.create_task(counting.keep(), name="clock")
        system = System(
            settings,
            bus,
            blobs=blobs or FileBlobs(settings.data / "blobs"),
            clock=counting,
            models=models or Models(settings, cassette=cassette),
            tools=tools if tools is not None else with_named(settings.tools),
            name=name,
        )
        try:
            yield system
        finally:
            keeping.cancel()
            await system.models.close()


async def run_worker(
    system: System,
    stop: asyncio.Event,
    *,
    roles: frozenset[str] | None = None,
    sandbox: Sandbox | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Work until `stop` is set, then drain. Without `sandbox` the best tier of this machine is found and told."""
    from gateway.children import Children  # it stands on the operations, and they on this module

    settings = system.settings
    sandbox = sandbox or await probe_sandbox()
    log.info("worker_started", sandbox=sandbox.tier if sandbox else "none: command tools are refused")
    performer = Performer(
        boxes=system.boxes,
        blobs=system.blobs,
        clock=system.clock,
        model_of=system.models.of,
        tools=system.tools,
        sandbox=sandbox,
        deltas=Deltas(system.bus),
        check_plan=plan_faults,
        spawn=Children(system),
    )
    runtime = Runtime(
        system.bus,
        system.engine,
        system.queues,
        performer,
        limits=Limits(
            agents_max=settings.max_agents,
            tools_max=settings.max_tools,
            drain_seconds=settings.drain_seconds,
            ack_wait_seconds=settings.ack_wait_seconds,
        ),
        roles=roles,
    )
    await _queue(system, "run")
    if ready is not None:
        ready.set()
    await runtime.run(stop)


async def _queue(system: System, to: str) -> None:
    """Make a queue, however long the log is away: a worker that starts in an outage waits for its end."""
    while True:
        try:
            return await system.queues.ensure(to)
        except LogUnavailable as fault:
            if system.bus.closed.is_set():
                raise
            log.warning("worker_waits_for_the_log", error=str(fault))
            await asyncio.sleep(AGAIN_SECONDS)


class Deltas:
    """Sends a model's words on as they come, by core NATS: never stored, and lost if nobody listens."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def __call__(self, address: Address, turn: int, text: str) -> None:
        await self.bus.publish(delta_subject(address), msgspec.json.encode({"turn": turn, "text": text}))


def plan_faults(steps: Any, roles: frozenset[str]) -> list[str]:
    """Return what is wrong with a planner's steps, as `events.plan.faults` words it."""
    try:
        return faults(Plan(steps=msgspec.convert(steps, tuple[PlanStep, ...], strict=False)), roles)
    except msgspec.ValidationError as fault:
        return [str(fault)]
