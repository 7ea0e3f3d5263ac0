"""The worker's loop: pulls from the work queues and the inbox no more than it has slots for, and runs a turn a message."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from actors.held import Beat, Held
from actors.mailbox import Mailbox
from actors.turn import Engine
from actors.work import HELD_NAK_SECONDS, OUTAGE_NAK_SECONDS, Performs, Work, give_back
from events import codec
from events.blobs import BlobMissing
from events.jetstream.api import CALLBOARD, CALLBOARD_INBOX
from events.jetstream.connection import Bus
from events.jetstream.pull import EXPIRES_SECONDS
from events.jetstream.queues import Delivery, Pull, Queues
from events.jetstream.streams import ACK_WAIT_SECONDS, INBOX_CONSUMER
from events.log import LogError, LogUnavailable
from events.subjects import Address, parse_fact
from toolbox.errors import FilesAway

SLOTS_REFRESH_SECONDS: Final = 1.0
RUN_QUEUE: Final = "run"

log = structlog.get_logger()


class Limits(msgspec.Struct, frozen=True):
    """How much a worker takes at once."""

    agents_max: int = 16
    turns_max: int = 128
    tools_max: int = 32
    drain_seconds: float = 10.0
    ack_wait_seconds: float = ACK_WAIT_SECONDS
    pull_seconds: float = EXPIRES_SECONDS
    """For so long a request for work stays open."""


DEFAULT_LIMITS: Final = Limits()


class Runtime:
    """One worker."""

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        queues: Queues,
        perform: Performs,
        *,
        limits: Limits = DEFAULT_LIMITS,
        roles: frozenset[str] | None = None,
    ) -> None:
        self.bus = bus
        self.engine = engine
        self.queues = queues
        self.limits = limits
        self.roles = roles
        self.work = Work(bus, engine, perform, release=self._release, stop=self._stop)
        self.beat = Beat(ack_wait_seconds=limits.ack_wait_seconds, clock=engine.clock, answer_for=self.work.answer_for)
        self.begun: set[Address] = set()
        self.outdated: set[str] = set()
        self._pulls: dict[str, Pull] = {}
        self._busy: dict[str, int] = {}
        self._turns: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._slots_due = asyncio.Event()
        """Set when all slots are taken or a queue is lost: then somebody must look."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in hand (drain) and return."""
        async with asyncio.TaskGroup() as group:
            self._turns = group
            beat = group.create_task(self.beat.run())
            slots = group.create_task(self._refresh_slots())
            watching = group.create_task(self.queues.watch(self._found))
            forget = self.bus.on_reconnect(self._back)
            await self._pull(CALLBOARD_INBOX, INBOX_CONSUMER)
            # Every worker serves the runs: it notices that their queue is lost also if it was lost before it was found.
            await self._pull(CALLBOARD, RUN_QUEUE)
            try:
                await stop.wait()
            finally:
                forget()
                watching.cancel()
                await self._leave()
            await self._drain()
            beat.cancel()
            slots.cancel()

    # pulling

    def _found(self, queue: str) -> None:
        """Begin to pull from a queue, if it is of a kind and role that this worker serves."""
        kind, _, name = queue.partition("-")
        wanted = kind in ("run", "tool") or (
            kind in ("start", "agent") and bool(name) and (self.roles is None or name in self.roles)
        )
        if wanted and queue not in self._pulls and not self._draining and self._turns is not None:
            self._turns.create_task(self._pull(CALLBOARD, queue))

    async def _pull(self, stream: str, consumer: str) -> None:
        if consumer in self._pulls:
            return
        self._busy[consumer] = 0
        pull = self._pulls[consumer] = Pull(
            self.bus,
            stream,
            consumer,
            deliver=lambda delivery: self._take(consumer, delivery),
            free=lambda: self._free(consumer),
            gone=self._slots_due.set,
            expires_seconds=self.limits.pull_seconds,
        )
        while not self._draining:
            try:
                await pull.start()
            except LogUnavailable as fault:
                log.warning("queue_waits_for_the_log", queue=consumer, error=str(fault))
                await asyncio.sleep(OUTAGE_NAK_SECONDS)
            else:
                return

    def _free(self, queue: str) -> int:
        if self._draining or queue in self.outdated:
            return 0
        if queue.startswith("start-"):
            return self._free_agents()
        if queue.startswith("tool-"):
            return max(0, self.limits.tools_max - self._busy[queue])
        return max(0, self.limits.turns_max - self._busy[queue])

    def _free_agents(self) -> int:
        """Share the free slots among the start queues, one each at least, so that an idle role's pull keeps none from another's.

        So a worker may begin as many agents above its limit as it serves roles, less one.
        """
        free = self.limits.agents_max - len(self.begun)
        queues = sum(name.startswith("start-") for name in self._pulls)
        return max(1, free // max(1, queues)) if free > 0 else 0

    def _take(self, queue: str, delivery: Delivery) -> None:
        key = (delivery.stream, delivery.seq)
        if (held := self.beat.held.get(key)) is not None:
            held.delivery = delivery  # handed again what is in hand: go on, and answer to the new reply subject (T7)
            held.lost, held.beaten = False, self.engine.clock.monotonic()
            return
        if self._turns is None or self._draining:
            return
        self._busy[queue] += 1
        if queue.startswith("start-"):
            self.begun.add(_agent_of(delivery.subject))
            if len(self.begun) >= self.limits.agents_max:
                self._slots_due.set()
        held = Held(delivery, ack_wait_seconds=self.limits.ack_wait_seconds, clock=self.engine.clock)
        self.beat.hold(key, held)
        task = self._turns.create_task(self._work(queue, delivery, held))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(queue, key, done))

    def _done(self, queue: str, key: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._busy[queue] -= 1
        self.beat.drop(key)
        if (pull := self._pulls.get(queue)) is not None:
            pull.poke()

    async def _refresh_slots(self) -> None:
        """While full, ask once a second which of the agents begun here have ended or wait: other workers may have gone on with them."""
        while True:
            await self._slots_due.wait()
            await asyncio.sleep(SLOTS_REFRESH_SECONDS)
            await self._remake_lost_queues()
            if len(self.begun) < self.limits.agents_max:
                if not any(pull.missing for pull in self._pulls.values()):
                    self._slots_due.clear()
                continue
            try:
                for address in sorted(self.begun):  # in one order everywhere: a simulation repeats it
                    await self._refresh_slot(address)
            except LogError as fault:
                log.warning("slots_not_refreshed", error=str(fault))

    async def _remake_lost_queues(self) -> None:
        """Make a work consumer again that the server no longer has: what it held is delivered once more, and found done."""
        for queue, pull in list(self._pulls.items()):
            if pull.missing and queue != INBOX_CONSUMER:
                with suppress(LogError):
                    await self.queues.remake(queue)
                    pull.poke()

    async def _refresh_slot(self, address: Address) -> None:
        last = await self.engine.facts.peek(address.scope)
        if last is None:
            return
        box = self.engine.boxes.of(address)
        async with box.turn:
            await box.read_to(last.seq)
            idle = box.state.idle
        if idle:
            self._release(address)

    def _stop(self, box: Mailbox[Any]) -> None:
        self.beat.stop_unasked(box)

    def _release(self, address: Address) -> None:
        if address in self.begun:
            self.begun.discard(address)
            for queue, pull in self._pulls.items():
                if queue.startswith("start-"):
                    pull.poke()

    async def _leave(self) -> None:
        """Take nothing new."""
        self._draining = True
        for pull in list(self._pulls.values()):
            with suppress(LogError):
                await pull.stop()

    async def _drain(self) -> None:
        """Finish what is in hand within the limit, and give the rest back."""
        if self._tasks:
            log.info("draining", turns=len(self._tasks))
            await asyncio.wait(self._tasks, timeout=self.limits.drain_seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    # one message

    async def _work(self, queue: str, delivery: Delivery, held: Held) -> None:
        """Run the turn of one message and settle it: the only place that acks or naks."""
        try:
            if delivery.stream == CALLBOARD_INBOX:
                await self.work.command(delivery, held)
            else:
                await self.work.notice(delivery, held)
        except asyncio.CancelledError:
            await give_back(held, 0)
            raise
        except codec.UnknownFact as fault:
            self.outdated.add(queue)
            log.error("outdated", queue=queue, seq=delivery.seq, error=str(fault))
            await give_back(held, HELD_NAK_SECONDS)
        except (LogUnavailable, BlobMissing, FilesAway, OSError) as fault:
            log.warning("turn_postponed", queue=queue, seq=delivery.seq, error=str(fault))
            await give_back(held, OUTAGE_NAK_SECONDS)
        except Exception as fault:  # one actor's bug must not stop its neighbours; it is counted in the log
            log.exception("turn_failed", queue=queue, seq=delivery.seq)
            await self.work.count_failure(held, f"{type(fault).__name__}: {fault}"[:2000])
        finally:
            if held.unsubscribe is not None:
                with suppress(LogError):
                    await held.unsubscribe()

    def _back(self) -> None:
        """After a reconnect the server may deliver every ticket again: answer for those in hand before anybody asks."""
        self.work.reconnected = self.engine.clock.monotonic()
        if self._turns is not None and not self._draining:
            self._turns.create_task(self.beat.answer_all())


def _agent_of(subject: str) -> Address:
    address, _, _ = parse_fact(subject)
    return address.at(address.step)
