"""The work on one message: a notice becomes a turn and perhaps an effect, a command becomes a turn and an answer.

Here the rules T2, T3, T6 and T7 of ARCHITECTURE.md are kept; acks and naks are the caller's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from actors.agent_state import AgentState
from actors.child import ChildDone
from actors.commands import BadCommand, parse
from actors.decider import TURNS_FAILED_MAX, Command, Nudge, Perform, Refused, TimerFired, TurnRaised
from actors.held import Delivery as InHand
from actors.held import Held
from actors.letters import Letters
from actors.mailbox import Mailbox
from actors.notices import addressee, command_of
from actors.standing import standing, with_outcome
from actors.turn import Engine, Turn, hand_over_all, until_answered
from events import codec
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded, ModelRefused, ModelRequested, ModelTakenOver
from events.budget import BudgetAsked
from events.envelope import REPLY, TYPE, Record, to_record
from events.jetstream.api import CALLBOARD_INBOX
from events.jetstream.connection import Bus, NoResponders
from events.jetstream.queues import Delivery
from events.log import LogError, LogUnavailable
from events.subjects import NOBODY, Address, check_address, held_subject, may_answer_on, parse_command, run_scope
from events.tool import ToolOutcomeUnknown, ToolRefused, ToolStarted

BEGINNINGS: Final = (ModelRequested, ModelTakenOver, ToolStarted, ToolOutcomeUnknown)
"""Who stores one of these with a ticket in hand begins what it asks for."""
HELD_SECONDS: Final = 2.0
HELD_NAK_SECONDS: Final = 5.0
OUTAGE_NAK_SECONDS: Final = 1.0
UNREADABLE_NAK_SECONDS: Final = 60.0
RECONNECT_SECONDS: Final = 2.0

log = structlog.get_logger()

Performs = Callable[[Mailbox[Any], Perform], Awaitable[Command]]


class Work:
    """What a worker does with the messages in its hand; `release` is told of agents that ended or pause,
    `stop` of actors whose effects may no longer be asked for.
    """

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        perform: Performs,
        *,
        release: Callable[[Address], None],
        stop: Callable[[Mailbox[Any]], None],
    ) -> None:
        self.bus = bus
        self.engine = engine
        self.perform = perform
        self.release = release
        self.stop = stop
        self.letters = Letters(engine)
        self.reconnected = -RECONNECT_SECONDS

    async def notice(self, delivery: Delivery, held: Held) -> None:
        """Run the turn of a notice, perform what it is the ticket for, and settle it."""
        record = _record(delivery)
        address = addressee(record)
        if delivery.delivered > 1 and await self._held_elsewhere(delivery.seq):
            await give_back(held, HELD_NAK_SECONDS)
            return
        box = held.box = self.engine.boxes.of(address)
        turn = Turn(
            self.engine, box, notice=record.seq, to=record.to, causation=str(record.seq), ours=lambda: not held.late
        )
        async with box.turn:
            await self._load(box, record, again=delivery.delivered > 1 or box.position >= record.seq)
            again = delivery.delivered > 1 or (record.address == address and box.seen.version > record.version)
            for missed in await standing(self.engine, record):
                with suppress(Refused):  # it has ended since, and nobody is left to be told
                    await turn.decide(missed)
            command = command_of(record, now_ms=self.engine.clock.now_ms())
            news = await turn.answer(command)
            await turn.go_on()
            request = turn.performable()
            begun = request is not None and not _began(turn) and (delivery.delivered > 1 or request.begun)
            if begun and delivery.delivered == 1 and await self._held_elsewhere(delivery.seq):
                await give_back(held, HELD_NAK_SECONDS)
                return
            if begun:
                await turn.decide(turn.take_over())
            # A queue that was made again counts deliveries anew: the log tells better whether somebody was here before.
            handed = turn.unmade(everything=again or not news)
            request = turn.performable()
        await hand_over_all(self.engine, address, handed)
        if request is not None and held.late:
            held.lost = True  # another worker was handed the ticket meanwhile
            return
        while request is not None:
            request = await self._perform(held, box, request, record)
        if delivery.delivered > TURNS_FAILED_MAX:
            await self.letters.of_turn(box, _message_of(delivery), delivery)
        self._ended(box)
        await held.settle()

    async def _load(self, box: Mailbox[Any], record: Record, *, again: bool) -> None:
        """Read on as rule T1 wants; on a ticket that was handed out before, another may have begun what is not read yet."""
        if again or (record.address != box.address and box.address.kind != "agent"):
            await box.read_on()
        elif not box.take_next(record):
            await box.read_to(record.seq, known=box.known_of(record))

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
        turn = Turn(
            self.engine, box, notice=record.seq, to=record.to, causation=str(record.seq), ours=lambda: not held.late
        )
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
                # Its append is fenced, so that only one who has nothing to say must know that nothing is unread (rule T1).
                if not await turn.answer(result):
                    await box.read_on()
                    await turn.answer(result)
                if _refused(turn):
                    return  # whoever performs it now goes on: what we asked for here would hang on a ticket that is gone
                await turn.go_on()
                next_, handed = turn.performable(), turn.unmade(everything=False)

        await until_answered(bring)
        if _refused(turn) or (next_ is not None and not _began(turn)):
            held.lost = True  # whoever stored that the next one begins has the ticket now
            return None
        await hand_over_all(self.engine, box.address, handed)
        return next_

    def _ended(self, box: Mailbox[Any]) -> None:
        agent = isinstance(box.state, AgentState)
        if agent and (box.state.end is not None or box.state.paused):
            self.release(box.address)
        elif not agent and box.state.end is not None:
            self.engine.boxes.forget(box.address)

    async def command(self, delivery: Delivery, held: Held) -> None:
        """Run the turn of a command, answer it, and settle it."""
        try:
            address, verb = parse_command(delivery.subject)
            check_address(address)  # a literal `*` can be published, and would read other tenants' facts
            # The server fired a timer that is due by its own clock: what this process thinks of the time cannot undo it.
            now_ms = max(self.engine.clock.now_ms(), delivery.stored_ms)
            command = parse(address, verb, delivery.body, now_ms=now_ms)
        except (BadCommand, ValueError) as fault:
            log.warning("command_refused", subject=delivery.subject[:200], error=str(fault))
            await self._bury(delivery, held, getattr(fault, "code", "bad_subject"), str(fault))
            return
        if isinstance(command, ChildDone):
            command = await with_outcome(self.engine, address, command)
        box = held.box = self.engine.boxes.of(address)
        turn = Turn(self.engine, box, causation=command.id)
        answer: dict[str, Any] = {}
        async with box.turn:
            await box.read_on()
            if await self._nobody_there(box, verb):
                self.engine.boxes.forget(address)
                await self._bury(delivery, held, "no_actor", f"there is nobody at {address}")
                return
            if isinstance(command, Nudge):
                await self._remake_queues(box, command)
            watch = _is_watch(command, box)
            try:
                await turn.decide(command)
            except Refused as refused:
                answer = {"error": {"code": refused.code, "detail": str(refused)}}
            handed = turn.unmade(everything=watch or delivery.delivered > 1)
        if turn.appended:
            self.stop(box)
        await hand_over_all(self.engine, address, handed)
        if watch and box.state.end is None:
            await self._watch(box, command)
        answer = answer or {"actor": str(address), "seq": box.seen.last, "appended": [one.seq for one in turn.appended]}
        await self._reply(delivery, answer)
        if delivery.delivered > TURNS_FAILED_MAX:
            await self.letters.of_turn(box, _message_of(delivery), delivery)
        self._ended(box)
        await held.settle()

    async def _nobody_there(self, box: Mailbox[Any], verb: str) -> bool:
        """Tell whether a command came to an actor that does not exist, and should not have.

        The engine's own may come to one that a cancel or a crash kept from beginning.
        """
        if getattr(box.state, "request", self) is not None or verb in ("nudge", "timer"):
            return False
        at = box.address
        return verb == "decide" or await self.engine.facts.last(run_scope(at.workspace, at.run)) == 0

    async def _bury(self, delivery: Delivery, held: Held, code: str, reason: str) -> None:
        """Answer a command that nobody can work on, once it is recorded as a dead letter."""
        letter = await self.letters.of_junk(delivery, code, reason)
        await self._reply(
            delivery, {"error": {"code": code, "detail": reason, **({"dead_letter": letter} if letter else {})}}
        )
        await held.settle()

    async def _reply(self, delivery: Delivery, answer: dict[str, Any]) -> None:
        subject = delivery.headers.get(REPLY, "")
        if may_answer_on(subject):
            await self.bus.publish(subject, msgspec.json.encode(answer))

    # the watch (T6)

    async def _watch(self, box: Mailbox[Any], command: Command) -> None:
        """Send a nudge, with the queues' ack floors, to whom the actor waits for; take in an agent's end that was missed."""
        floors = command.floors if isinstance(command, Nudge) else await self.engine.queues.floors()
        for address in box.decider.open_actors(box.state):
            if address.kind == "agent" and await self._missed_end(box, address):
                continue
            name = {"tool": address.call, "agent": address.step, "run": address.run}[address.kind]
            id_ = f"{command.id[:30]}-{name[-32:]}"
            body = msgspec.json.encode({"id": id_, "floors": floors})
            await self.engine.inbox.send(address, "nudge", body, command_id=id_)

    async def _remake_queues(self, box: Mailbox[Any], nudge: Nudge) -> None:
        """Make a queue again that an open ticket stands in and the server has lost, and with it all who pulled from it."""
        for queue in {getattr(box.state, "queue", ""), getattr(getattr(box.state, "model", None), "queue", "")}:
            if queue not in ("", NOBODY) and queue not in nudge.floors:
                await self.engine.queues.remake(queue)

    async def _missed_end(self, box: Mailbox[Any], address: Address) -> bool:
        last = await self.engine.facts.peek(address.fence)
        if last is None or not isinstance(last.fact, AgentSucceeded | AgentFailed | AgentCanceled | BudgetAsked):
            return False
        turn = Turn(self.engine, box, causation=f"cmd_missed-{last.seq}")
        command = command_of(last, id_=turn.causation, now_ms=self.engine.clock.now_ms())
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
                if self.engine.clock.monotonic() - self.reconnected > RECONNECT_SECONDS:
                    return False
                asked = 0  # the performer may still be on its way back to the server
                await asyncio.sleep(RECONNECT_SECONDS / 4)
                continue
            except LogUnavailable:
                continue
            return True
        return False

    async def answer_for(self, ticket: int) -> Callable[[], Awaitable[None]]:
        async def answer(message: Any) -> None:
            await self.bus.publish(message.reply, self.engine.name.encode())

        subscription = await self.bus.subscribe(held_subject(ticket), answer)
        return subscription.unsubscribe

    async def count_failure(self, held: Held, error: str) -> None:
        """Count in the log that a turn on this message raised, and give the message back; after the last one it is a dead letter."""
        delivery, box = held.delivery, held.box
        message = _message_of(delivery)
        seconds = OUTAGE_NAK_SECONDS
        try:
            if box is not None:
                await self._count(box, message, error)
                if await self.letters.of_turn(box, message, delivery):
                    await held.settle()
                    return
                if getattr(box.state, "end", None) is not None:
                    box = None  # what has ended counts nothing any more
        except LogError as fault:
            log.warning("failure_not_counted", seq=delivery.seq, error=str(fault))
        except Exception:  # its actor cannot be read
            log.exception("failure_not_counted", seq=delivery.seq)
            box = None
        if box is None and delivery.delivered >= TURNS_FAILED_MAX:  # the server's count is all there is
            seconds = UNREADABLE_NAK_SECONDS
            with suppress(LogError):
                await self.letters.of_delivery(delivery, error)
        await give_back(held, seconds)

    async def _count(self, box: Mailbox[Any], message: str, error: str) -> None:
        id_ = f"{self.engine.clock.new_id('cmd')}-{message}"
        turn = Turn(self.engine, box, causation=id_)
        async with box.turn:
            await box.read_on()
            raised = TurnRaised(id=id_, now_ms=self.engine.clock.now_ms(), message=message, error=error)
            await turn.decide(raised)


def _began(turn: Turn) -> bool:
    """Tell whether this turn stored that what its ticket is for begins."""
    return any(isinstance(one.fact, BEGINNINGS) for one in turn.appended)


def _refused(turn: Turn) -> bool:
    return any(isinstance(one.fact, ModelRefused | ToolRefused) for one in turn.appended)


def _is_watch(command: Command, box: Mailbox[Any]) -> bool:
    """Tell whether all that is open is handed over again. By another timer it is not: one that is due would fire for ever."""
    watch = getattr(box.state, "watch", None)
    own = isinstance(command, TimerFired) and watch is not None and command.timer == watch.timer
    return own or isinstance(command, Nudge)


async def give_back(held: Held, seconds: float) -> None:
    """Give a message back, to come again after `seconds`; without the server it comes again by itself."""
    if held.lost:
        return
    try:
        await held.delivery.nak(seconds)
    except LogError as fault:
        log.warning("not_given_back", seq=held.delivery.seq, error=str(fault))


def _message_of(delivery: InHand) -> str:
    """Name a message in `turn_failed` facts: by its sequence, and those of the inbox apart from those of the log."""
    return f"inbox-{delivery.seq}" if delivery.stream == CALLBOARD_INBOX else str(delivery.seq)


def _record(delivery: Delivery) -> Record:
    fact = codec.decode(delivery.body, delivery.headers.get(TYPE, ""))
    return to_record(
        seq=delivery.seq, subject=delivery.subject, headers=delivery.headers, body=delivery.body, fact=fact
    )
