"""The worker's loop: pulls from the work queues and the inbox no more than it has slots for, and runs a turn a message."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from actors.agent_state import AgentState
from actors.commands import BadCommand, parse
from actors.decider import Advance, Command, Nudge, Perform, Refused, TimerFired, TurnRaised
from actors.held import Beat, Held
from actors.mailbox import Mailbox
from actors.run import AgentEnded, CallEnded
from actors.turn import Engine, Turn, hand_over_all, until_answered
from events import codec
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded, ModelRefused
from events.blobs import BlobMissing
from events.envelope import REPLY, TYPE, Record, to_record
from events.fact import type_of
from events.jetstream.api import CALLBOARD, CALLBOARD_INBOX
from events.jetstream.connection import Bus, NoResponders
from events.jetstream.queues import Delivery, Pull, Queues
from events.jetstream.streams import INBOX_CONSUMER
from events.log import LogError, LogUnavailable
from events.subjects import Address, held_subject, parse_command, parse_fact
from events.tool import ToolCanceled, ToolCompleted, ToolFailed, ToolOutcomeUnknown, ToolRefused
from toolbox.errors import FilesAway

HELD_SECONDS: Final = 2.0
HELD_NAK_SECONDS: Final = 5.0
OUTAGE_NAK_SECONDS: Final = 1.0
SLOTS_REFRESH_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 2.0

log = structlog.get_logger()

Performs = Callable[[Mailbox[Any], Perform], Awaitable[Command]]


class Limits(msgspec.Struct, frozen=True):
    """How much a worker takes at once."""

    agents_max: int = 16
    turns_max: int = 128
    tools_max: int = 32
    drain_seconds: float = 10.0
    ack_wait_seconds: float = 8.0


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
        self.perform = perform
        self.limits = limits
        self.roles = roles
        self.beat = Beat(ack_wait_seconds=limits.ack_wait_seconds, answer_for=self._answer_for)
        self.begun: set[Address] = set()
        self.outdated: set[str] = set()
        self._pulls: dict[str, Pull] = {}
        self._busy: dict[str, int] = {}
        self._turns: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._reconnected = -RECONNECT_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in hand (drain) and return."""
        async with asyncio.TaskGroup() as group:
            self._turns = group
            beat = group.create_task(self.beat.run())
            slots = group.create_task(self._refresh_slots())
            watching = group.create_task(self.queues.watch(self._found))
            forget = self.bus.on_reconnect(self._back)
            await self._pull(CALLBOARD_INBOX, INBOX_CONSUMER)
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
        )
        try:
            await pull.start()
        except LogUnavailable as fault:
            log.warning("queue_not_served", queue=consumer, error=str(fault))
            del self._pulls[consumer]

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
            held.lost, held.beaten = False, time.monotonic()
            return
        if self._turns is None or self._draining:
            return
        self._busy[queue] += 1
        if queue.startswith("start-"):
            self.begun.add(_agent_of(delivery.subject))
        held = self.beat.held[key] = Held(delivery, ack_wait_seconds=self.limits.ack_wait_seconds)
        task = self._turns.create_task(self._work(queue, delivery, held))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(queue, key, done))

    def _done(self, queue: str, key: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._busy[queue] -= 1
        self.beat.held.pop(key, None)
        if (pull := self._pulls.get(queue)) is not None:
            pull.poke()

    async def _refresh_slots(self) -> None:
        """While full, ask once a second which of the agents begun here have ended or wait: other workers may have gone on with them."""
        while True:
            await asyncio.sleep(SLOTS_REFRESH_SECONDS)
            await self._remake_lost_queues()
            if len(self.begun) < self.limits.agents_max:
                continue
            try:
                for address in list(self.begun):
                    await self._refresh_slot(address)
            except LogError as fault:
                log.warning("slots_not_refreshed", error=str(fault))

    async def _remake_lost_queues(self) -> None:
        """Make a work consumer again that the server no longer has: what it held is delivered once more, and found done."""
        for queue, pull in self._pulls.items():
            if pull.missing and queue != INBOX_CONSUMER:
                with suppress(LogError):
                    await self.queues.names()  # forgets what is gone
                    await self.queues.ensure(queue)
                    pull.poke()

    async def _refresh_slot(self, address: Address) -> None:
        last = await self.engine.facts.peek(address.scope)
        if last is None:
            return
        waits = last.type.startswith("approval.requested.")
        ended = last.address == address and type_of(last.fact).startswith(
            ("agent.succeeded.", "agent.failed.", "agent.canceled.")
        )
        if waits or ended:
            self._release(address)

    def _release(self, address: Address) -> None:
        if address in self.begun:
            self.begun.discard(address)
            for queue, pull in self._pulls.items():
                if queue.startswith("start-"):
                    pull.poke()

    async def _leave(self) -> None:
        """Take nothing new."""
        self._draining = True
        for pull in self._pulls.values():
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
                await self._command(delivery, held)
            else:
                await self._notice(queue, delivery, held)
        except asyncio.CancelledError:
            await self._nak(held, 0)
            raise
        except codec.UnknownFact as fault:
            self.outdated.add(queue)
            log.error("outdated", queue=queue, seq=delivery.seq, error=str(fault))
            await self._nak(held, HELD_NAK_SECONDS)
        except (LogUnavailable, BlobMissing, FilesAway, OSError) as fault:
            log.warning("turn_postponed", queue=queue, seq=delivery.seq, error=str(fault))
            await self._nak(held, OUTAGE_NAK_SECONDS)
        except Exception as fault:  # one actor's bug must not stop its neighbours; it is counted in the log
            log.exception("turn_failed", queue=queue, seq=delivery.seq)
            await self._count_failure(held, f"{type(fault).__name__}: {fault}"[:2000])
        finally:
            if held.unsubscribe is not None:
                with suppress(LogError):
                    await held.unsubscribe()

    async def _notice(self, queue: str, delivery: Delivery, held: Held) -> None:
        record = self._record(delivery)
        address = _addressee(record)
        if delivery.delivered > 1 and await self._held_elsewhere(delivery.seq):
            await held.delivery.nak(HELD_NAK_SECONDS)
            return
        box = held.box = self.engine.boxes.of(address)
        turn = Turn(self.engine, box, notice=record.seq, to=record.to, causation=str(record.seq))
        async with box.turn:
            await self._load(box, record)
            command = self._read(record)
            await turn.decide(command)
            if delivery.delivered > 1 and turn.performable() is not None and not turn.appended:
                await turn.decide(turn.take_over(held.delivery.delivered))
            handed = turn.unmade(everything=delivery.delivered > 1)
            request = turn.performable()
        await hand_over_all(self.engine, address, handed)
        while request is not None:
            request = await self._perform(held, box, request, record)
        self._ended(box)
        await held.settle()

    async def _load(self, box: Mailbox[Any], record: Record) -> None:
        if record.address == box.address or box.address.kind == "agent":
            await box.read_to(record.seq)
        else:
            await box.read_on()

    def _read(self, record: Record) -> Command:
        """Read a notice as a command to the actor it is addressed to."""
        id_, now_ms = str(record.seq), self.engine.clock.now_ms()
        match record.fact:
            case AgentSucceeded() | AgentFailed() | AgentCanceled() as end:
                return AgentEnded(
                    id=id_, now_ms=now_ms, ticket=record.seq, actor=record.address.step, seq=record.seq, end=end
                )
            case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown() as end if record.to == "run":
                return CallEnded(id=id_, now_ms=now_ms, ticket=record.seq, call=record.address.call, end=end)
            case _:
                return Advance(id=id_, now_ms=now_ms, ticket=record.seq)

    async def _perform(self, held: Held, box: Mailbox[Any], request: Perform, record: Record) -> Perform | None:
        """Perform an effect, bring its result to the actor, and return the next effect of the same ticket, if any."""
        held.request = request
        held.effect = effect = asyncio.ensure_future(self.perform(box, request))
        try:
            await asyncio.wait([effect])
        except asyncio.CancelledError:
            effect.cancel()
            await asyncio.wait([effect])
            raise
        finally:
            held.effect = None
        turn = Turn(self.engine, box, notice=record.seq, to=record.to, causation=str(record.seq))
        if effect.cancelled():
            held.lost = (
                turn.performable() is not None
            )  # a newer epoch works on this ticket: it is no longer ours to ack
            return None
        result = effect.result()
        next_: Perform | None = None
        handed: list[Any] = []

        async def bring() -> None:
            nonlocal next_, handed
            async with box.turn:
                await box.read_on()
                await turn.decide(result)
                next_, handed = turn.performable(), turn.unmade(everything=False)

        await until_answered(bring)
        if any(isinstance(one.fact, ModelRefused | ToolRefused) for one in turn.appended):
            held.lost = True
            return None
        await hand_over_all(self.engine, box.address, handed)
        return next_

    def _ended(self, box: Mailbox[Any]) -> None:
        if box.state.end is None:
            return
        if isinstance(box.state, AgentState):
            self._release(box.address)
        else:
            self.engine.boxes.forget(box.address)

    async def _command(self, delivery: Delivery, held: Held) -> None:
        try:
            address, verb = parse_command(delivery.subject)
            command = parse(address, verb, delivery.body, now_ms=self.engine.clock.now_ms())
        except (BadCommand, ValueError) as fault:
            log.warning("command_refused", subject=delivery.subject[:200], error=str(fault))
            await self._reply(
                delivery, {"error": {"code": getattr(fault, "code", "bad_subject"), "detail": str(fault)}}
            )
            await held.settle()
            return
        box = held.box = self.engine.boxes.of(address)
        turn = Turn(self.engine, box, causation=command.id)
        answer: dict[str, Any] = {}
        async with box.turn:
            await box.read_on()
            try:
                await turn.decide(command)
            except Refused as refused:
                answer = {"error": {"code": refused.code, "detail": str(refused)}}
            watch = isinstance(command, TimerFired | Nudge)
            handed = turn.unmade(everything=watch or delivery.delivered > 1)
        await hand_over_all(self.engine, address, handed)
        if watch and box.state.end is None:
            await self._watch(box, command)
        answer = answer or {"actor": str(address), "seq": box.seen.last, "appended": [one.seq for one in turn.appended]}
        await self._reply(delivery, answer)
        self._ended(box)
        await held.settle()

    async def _reply(self, delivery: Delivery, answer: dict[str, Any]) -> None:
        subject = delivery.headers.get(REPLY, "")
        if subject and len(subject) <= 256 and not subject.startswith(("$", "cb.")) and " " not in subject:
            await self.bus.publish(subject, msgspec.json.encode(answer))

    # the watch (T6)

    async def _watch(self, box: Mailbox[Any], command: Command) -> None:
        """Send a nudge, with the queues' ack floors, to whom the actor waits for; take in an agent's end that was missed."""
        floors = command.floors if isinstance(command, Nudge) else await self.engine.queues.floors()
        for address in box.decider.open_actors(box.state):
            if address.kind == "agent" and await self._missed_end(box, address):
                continue
            id_ = f"{command.id[:30]}-{(address.call if address.kind == 'tool' else address.step)[-32:]}"
            body = msgspec.json.encode({"id": id_, "floors": floors})
            await self.engine.inbox.send(address, "nudge", body, command_id=id_)

    async def _missed_end(self, box: Mailbox[Any], address: Address) -> bool:
        last = await self.engine.facts.peek(address.fence)
        if last is None or not isinstance(last.fact, AgentSucceeded | AgentFailed | AgentCanceled):
            return False
        turn = Turn(self.engine, box, causation=f"cmd_missed-{last.seq}")
        command = AgentEnded(
            id=turn.causation, now_ms=self.engine.clock.now_ms(), actor=address.step, seq=last.seq, end=last.fact
        )
        async with box.turn:
            await box.read_on()
            await turn.decide(command)
            handed = turn.unmade(everything=False)
        await hand_over_all(self.engine, box.address, handed)
        return True

    # rules T7 and the dead letter

    async def _held_elsewhere(self, ticket: int) -> bool:
        """Ask whether the performer of a ticket is alive: no responders, or silence twice, says no."""
        asked = 0
        while asked < 2:
            asked += 1
            try:
                await self.bus.request(held_subject(ticket), b"", seconds=HELD_SECONDS)
            except NoResponders:
                if time.monotonic() - self._reconnected > RECONNECT_SECONDS:
                    return False
                asked = 0  # the performer may still be on its way back to the server
                await asyncio.sleep(RECONNECT_SECONDS / 4)
                continue
            except LogUnavailable:
                continue
            return True
        return False

    def _back(self) -> None:
        """After a reconnect the server may deliver every ticket again: answer for those in hand before anybody asks."""
        self._reconnected = time.monotonic()
        if self._turns is not None and not self._draining:
            self._turns.create_task(self.beat.answer_all())

    async def _answer_for(self, ticket: int) -> Callable[[], Awaitable[None]]:
        async def answer(message: Any) -> None:
            await self.bus.publish(message.reply, self.engine.name.encode())

        subscription = await self.bus.subscribe(held_subject(ticket), answer)
        return subscription.unsubscribe

    async def _count_failure(self, held: Held, error: str) -> None:
        box = held.box
        try:
            if box is not None:
                message = str(held.delivery.seq)
                id_ = f"cmd_failed-{message}-{time.time_ns()}"
                turn = Turn(self.engine, box, causation=id_)
                async with box.turn:
                    await box.read_on()
                    raised = TurnRaised(id=id_, now_ms=self.engine.clock.now_ms(), message=message, error=error)
                    await turn.decide(raised)
        except Exception:  # counting failed too: the message comes again
            log.exception("failure_not_counted", seq=held.delivery.seq)
        await self._nak(held, OUTAGE_NAK_SECONDS)

    async def _nak(self, held: Held, seconds: float) -> None:
        """Give a message back; without the server it comes again by itself."""
        if held.lost:
            return
        try:
            await held.delivery.nak(seconds)
        except LogError as fault:
            log.warning("not_given_back", seq=held.delivery.seq, error=str(fault))

    @staticmethod
    def _record(delivery: Delivery) -> Record:
        fact = codec.decode(delivery.body, delivery.headers.get(TYPE, ""))
        return to_record(
            seq=delivery.seq, subject=delivery.subject, headers=delivery.headers, body=delivery.body, fact=fact
        )


def _agent_of(subject: str) -> Address:
    address, _, _ = parse_fact(subject)
    return address.at(address.step)


def _addressee(record: Record) -> Address:
    """Return the actor that a notice is for."""
    if record.to == "run":
        return record.address.at()
    if record.to.startswith("tool-"):
        return record.address
    return record.address.at(record.address.step)
