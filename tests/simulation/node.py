"""A process of the simulation: the real system, worker and door, on a loop, a clock, a wire and providers that are not."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from actors.decider import Command, Perform
from actors.mailbox import Mailbox
from actors.model import Model
from actors.perform import Performer
from actors.runtime import Limits, Runtime
from events.blobs import BlobMissing
from events.log import LogUnavailable
from events.subjects import held_subject
from gateway import blueprint
from gateway.children import Children
from gateway.dead_letters import DeadLetters
from gateway.models import Models
from gateway.operations import Operations
from gateway.settings import Settings
from gateway.system import Deltas, System, plan_faults
from tests.simulation.link import Gone, Link, SimulatedBus
from tests.simulation.loop import Handle, Loop, World
from tests.simulation.scenario import PLANNING
from tests.simulation.server import BEGAN_MS
from tests.simulation.tools import TOOLS, Hands

if TYPE_CHECKING:
    from tests.simulation.stage import Stage

SETTINGS: Final = Settings(nats_url="simulated", home="/nowhere", drain_seconds=3, max_agents=3)

blueprint.planning = lambda: PLANNING  # the shipped roles' tools are not here


class Clock:
    """The clock of one machine: its wall clock is off by `skew`, its monotonic one stands while it is suspended."""

    def __init__(self, world: World, loop: Loop, name: str) -> None:
        self.world = world
        self.loop = loop
        self.name = name
        self.skew_ms = 0
        self.made = 0

    def now_ms(self) -> int:
        return BEGAN_MS + int(self.world.now * 1000) + self.skew_ms

    def monotonic(self) -> float:
        return self.loop.time()

    def new_id(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}_{self.name:0>10}{self.made:016d}"


class Blobs:
    """What all processes share, by workspace: nobody reads another's."""

    def __init__(self, world: World, kept: dict[tuple[str, str], bytes]) -> None:
        self.world = world
        self.kept = kept

    async def put(self, workspace: str, data: bytes) -> str:
        sha = sha256(data).hexdigest()
        await asyncio.sleep(self.world.random.random() * 0.002)
        self.kept[workspace, sha] = data
        return sha

    async def get(self, workspace: str, sha: str) -> bytes:
        await asyncio.sleep(self.world.random.random() * 0.002)
        data = self.kept.get((workspace, sha))
        if data is None:
            raise BlobMissing(sha)
        return data


class SimulatedModels(Models):
    """One provider for all models."""

    def __init__(self, model: Model) -> None:
        super().__init__(SETTINGS)
        self.model = model

    def resolve(self, name: str) -> str:
        return name

    def of(self, model: str) -> Model:
        return self.model


class Node:
    """One process. `work` makes it a worker; each has a door, which `ask` uses."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self.stage = stage
        self.world = stage.world
        self.name = name
        self.loop = Loop(stage.world, name)
        self.clock = Clock(stage.world, self.loop, name)
        self.link = Link(stage.server, self.loop)
        self.bus = SimulatedBus(self.link)
        self.hands = Hands(stage.target, name)
        self.performing: set[tuple[Any, ...]] = set()
        self.stop = asyncio.Event()
        self.system = System(
            SETTINGS,
            self.bus,
            blobs=stage.blobs,
            clock=self.clock,
            models=SimulatedModels(stage.provider),
            tools=TOOLS,
            name=name,
        )

    def run(self, main: Callable[[], Any]) -> None:
        """Begin `main` as a task of this process."""
        self.loop.push(Handle(lambda: self.loop.create_task(self._guarded(main)), (), copy_context(), 0.0))

    async def _guarded(self, main: Callable[[], Any]) -> None:
        try:
            await main()
        except (Gone, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever ends a process is what we look for
            self.world.faults.append(f"{self.name}: ended by {type(error).__name__}: {error!r:.300}")

    async def work(self) -> None:
        """What gateway.system.run_worker does, with effects watched."""
        system = self.system
        performer = Performer(
            boxes=system.boxes,
            blobs=system.blobs,
            clock=system.clock,
            model_of=system.models.of,
            tools=system.tools,
            sandbox=self.hands,
            deltas=Deltas(system.bus),
            check_plan=plan_faults,
            spawn=Children(system),
        )

        async def watched(box: Mailbox[Any], request: Perform) -> Command:
            key = (box.address, getattr(box.state, "turn", 0), request.ticket, request.epoch)
            self.stage.performs(self, key)
            try:
                result = await performer(box, request)
            except BaseException:
                self.performing.discard(key)
                raise
            self.stage.performed(self, key)
            return result

        limits = Limits(
            agents_max=3,
            drain_seconds=3,
            ack_wait_seconds=SETTINGS.ack_wait_seconds,
            pull_seconds=self.stage.scenario.pull_seconds,
        )
        runtime = Runtime(system.bus, system.engine, system.queues, watched, limits=limits)
        while True:
            try:
                await system.queues.ensure("run")
            except LogUnavailable:  # the process would end here, and be started again
                await asyncio.sleep(1)
            else:
                break
        await runtime.run(self.stop)

    @property
    def door(self) -> Operations:
        return Operations(self.system)

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.door)

    def answers(self, ticket: int) -> bool:
        """Tell whether it would say that it performs on a ticket."""
        return held_subject(ticket) in self.link.interests and not self.loop.stopped and not self.link.cut

    def kill(self) -> None:
        """SIGKILL: nothing of it runs again."""
        self.loop.kill()
        self.performing.clear()
        self.link.open = False
        self.link.interests.clear()
        if self.link in self.stage.server.links:
            self.stage.server.links.remove(self.link)
