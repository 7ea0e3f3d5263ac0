"""The floor: an agent and a tool subscriber that hand a tick to each other in the log: four events, two deliveries, nothing else.

No facts, no fold, no retry, none of the rules of a turn: what the log and the client cost by themselves, in this run on this machine.
"""

import asyncio
from typing import Final

import msgspec

from events.jetstream.api import CALLBOARD
from events.jetstream.connection import Bus
from events.jetstream.pull import Delivery, Pull
from events.jetstream.queues import Queues
from events.subjects import ROOT

WORKSPACE: Final = "prototype"
SLOTS: Final = 256


class Actors:
    """Runs of one agent each; `ticks` is how many of each until it is done."""

    def __init__(self, bus: Bus, ticks: int) -> None:
        self.bus = bus
        self.ticks = ticks
        self.left: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.done: dict[str, asyncio.Event] = {}

    async def run(self, name: str) -> None:
        """Begin a run and return when it has made its ticks."""
        self.left[name], self.done[name] = self.ticks, asyncio.Event()
        await self.append(name, "a", "model.responded", "agent-bare")
        await self.done[name].wait()

    async def append(self, run: str, actor: str, fact: str, to: str) -> None:
        """Append one event, expecting that the actor's last is the one we know."""
        scope = f"{ROOT}.{WORKSPACE}.evt.{run}.{actor}.-"
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(self.last.get(scope, 0)),
            "Nats-Expected-Last-Subject-Sequence-Subject": f"{scope}.>",
        }
        reply = await self.bus.request(f"{scope}.{fact}.{to}", b'{"type":"bare"}', headers=headers)
        self.last[scope] = msgspec.json.decode(reply.body)["seq"]

    async def agent(self, delivery: Delivery) -> None:
        """A result is there: ask the model, take its answer, ask for the next call."""
        run = delivery.subject.split(".")[3]
        self.left[run] -= 1
        if self.left[run] < 0:
            self.done[run].set()
        else:
            await self.append(run, "a", "model.requested", "-")
            await self.append(run, "a", "model.responded", "-")
            await self.append(run, f"c{self.left[run]}", "tool.requested", "tool-bare")
        await delivery.ack()

    async def tool(self, delivery: Delivery) -> None:
        """A call is wanted: its result goes to the agent."""
        _, _, _, run, actor, *_ = delivery.subject.split(".")
        self.last[f"{ROOT}.{WORKSPACE}.evt.{run}.{actor}.-"] = delivery.seq  # it may be here before its append's answer
        await self.append(run, actor, "tool.completed", "agent-bare")
        await delivery.ack()


async def serve(bus: Bus, actors: Actors, stop: asyncio.Event) -> None:
    """Work on both queues until `stop`."""
    queues = Queues(bus)
    async with asyncio.TaskGroup() as group:
        pulls: list[Pull] = []
        for queue, work in (("agent-bare", actors.agent), ("tool-bare", actors.tool)):
            await queues.ensure(queue)
            busy: set[asyncio.Task[None]] = set()

            def take(delivery: Delivery, work=work, busy=busy) -> None:  # type: ignore[no-untyped-def] # bound early
                task = group.create_task(work(delivery))
                busy.add(task)
                task.add_done_callback(busy.discard)

            pull = Pull(bus, CALLBOARD, queue, deliver=take, free=lambda: SLOTS)
            await pull.start()
            pulls.append(pull)
        await stop.wait()
        for pull in pulls:
            await pull.stop()
