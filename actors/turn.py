"""One turn: receive, load, decide, append, hand over, perform, ack. The rules T1 to T7 of ARCHITECTURE.md live here.

A door runs the first half of it (load, decide, append) and answers from that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import structlog

from actors.decider import Advance, Command, Create, HandOver, Perform, Schedule, Send, TakeOver, Want, timer_command
from actors.mailbox import Mailbox, Mailboxes
from events.blobs import Blobs
from events.clock import Clock
from events.envelope import Entry, Record
from events.fact import Fact
from events.log import Conflict, Log, LogUnavailable
from events.subjects import NOBODY, Address

DECISIONS_MAX: Final = 1000
CONFLICTS_MAX: Final = 50
RETRY_SECONDS: Final = 0.5

log = structlog.get_logger()


class Inbox(Protocol):
    """Where commands and timers go out."""

    async def send(self, address: Address, verb: str, body: bytes, *, command_id: str) -> int: ...

    async def schedule(self, address: Address, timer: str, *, at_ms: int, verb: str, body: bytes) -> None: ...


class Queues(Protocol):
    """The work queues."""

    async def ensure(self, to: str) -> None: ...

    async def remake(self, to: str) -> None: ...

    async def floors(self) -> dict[str, int]: ...


class Engine(msgspec.Struct, frozen=True):
    """What a turn works with. `perform` does the effect of a request and returns the command that brings its result."""

    facts: Log
    inbox: Inbox
    queues: Queues
    clock: Clock
    boxes: Mailboxes
    name: str
    blobs: Blobs | None = None


class Turn:
    """One command's way through one actor. `notice` is the sequence and the `<to>` of the message in hand, if it is one;
    `ours` tells whether it still is: late, it may have been another worker's, and acked.
    """

    def __init__(
        self,
        engine: Engine,
        box: Mailbox[Any],
        *,
        notice: int = 0,
        to: str = "",
        causation: str,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self.engine = engine
        self.box = box
        self.notice = notice
        self.to = to
        self.causation = causation
        self.ours = ours
        self.appended: list[Record] = []
        self.disputed = False
        """Whether others wrote to this actor while the turn did: then what they asked for may hang on this message too."""
        self.asked: list[HandOver] = []

    async def decide(self, command: Command) -> None:
        """Answer `command`, then go on until the actor has nothing more to say; raises as `answer` does."""
        await self.answer(command)
        await self.go_on()

    async def go_on(self) -> None:
        """Let the actor say what is left to say; raises as `answer` does."""
        for _ in range(DECISIONS_MAX):
            if not await self.answer(Advance(id="", now_ms=self.engine.clock.now_ms(), ticket=self.notice)):
                return
        raise RuntimeError(f"{self.box.address} does not come to rest")

    async def answer(self, command: Command) -> bool:
        """Decide on one command and append what came of it; the caller holds the mailbox and has loaded it.

        Returns whether there was anything to append. Raises Refused if the actor says no, Conflict if others kept
        winning, LogUnavailable.
        """
        for tries in range(CONFLICTS_MAX):
            if command.id in self.box.seen.commands:
                return False
            facts = self.box.decider.decide(self.box.state, command)
            try:
                for fact in facts:
                    await self._append(fact)
            except Conflict as conflict:
                if tries == CONFLICTS_MAX - 1:
                    raise
                self.disputed = True
                await self.box.recover(conflict)
                continue
            return bool(facts)
        return False

    async def _append(self, fact: Fact) -> None:
        to = self._to(fact)
        if to != NOBODY:
            await self.engine.queues.ensure(to)
        record = await self.box.append(
            fact,
            to,
            causation=self.causation,
            id=self.engine.clock.new_id("evt"),
            time_ms=self.engine.clock.now_ms(),
            engine=self.engine.name,
        )
        self.appended.append(record)
        self.asked += self._handed([one for one in self._open() if one.asked == record.seq])

    def _to(self, fact: Fact) -> str:
        """Name who must act; what the message in hand entitles to, while it is ours, needs no second ticket (rule T2)."""
        to = self.box.decider.route(self.box.state, fact)
        return NOBODY if self.notice and audience(to) == audience(self.to) and self.ours() else to

    def unmade(self, *, everything: bool) -> list[HandOver]:
        """Return the hand-overs to make: those this turn's facts asked for, or all that are open, as when another worker
        had this message too and may have died before it made its own.

        An agent's calls are always among them: it sees in its scope which ones are missing.
        """
        if everything or self.disputed:
            return self._handed(self._open())
        agent = self.box.address.kind == "agent"
        more = [
            one
            for one in self._open()
            if (agent and isinstance(one, Want)) or (self.notice and one.asked == self.notice)
        ]
        made = {one.address for one in self.asked if isinstance(one, Create)}
        return [
            *self.asked,
            *self._handed([one for one in more if not (isinstance(one, Want) and one.address in made)]),
        ]

    def _open(self) -> list[Want | Send | Schedule]:
        return [one for one in self.box.decider.pending(self.box.state) if not isinstance(one, Perform)]

    def _handed(self, asked: list[Want | Send | Schedule]) -> list[HandOver]:
        """Make what is handed over, while the state it is made of is at hand."""
        return [self.box.decider.create(self.box.state, one) if isinstance(one, Want) else one for one in asked]

    def performable(self) -> Perform | None:
        """Return the effect that the message in hand is the ticket for."""
        if not self.notice:
            return None
        asked = self.box.decider.pending(self.box.state)
        return next((one for one in asked if isinstance(one, Perform) and one.ticket == self.notice), None)

    def take_over(self) -> TakeOver:
        """Return the command of a ticket that was delivered before."""
        return TakeOver(id=self.causation, now_ms=self.engine.clock.now_ms(), ticket=self.notice)


def audience(to: str) -> str:
    """Return who reads a `<to>`: the workers of a role serve its `start-` and its `agent-` queue."""
    kind, _, name = to.partition("-")
    return f"role {name}" if kind in ("start", "agent") else to


async def hand_over(engine: Engine, request: HandOver) -> None:
    """Make a hand-over; one that was made before changes nothing."""
    match request:
        case Create():
            if request.to != NOBODY:
                await engine.queues.ensure(request.to)
            entry = Entry(
                address=request.address,
                to=request.to,
                fact=request.fact,
                id=engine.clock.new_id("evt"),
                time_ms=engine.clock.now_ms(),
                causation=str(request.asked),
                version=1,
                engine=engine.name,
            )
            try:
                await engine.facts.append(entry, expected=0)
            except Conflict:
                log.debug("already_created", actor=str(request.address))
        case Send():
            body = msgspec.json.encode({"id": request.id, **request.body})
            await engine.inbox.send(request.address, request.verb, body, command_id=request.id)
        case Schedule():
            raise TypeError("a schedule is of one actor: use set_timer")


async def set_timer(engine: Engine, address: Address, request: Schedule) -> None:
    """Set a timer of the actor at `address`; set again it stays one timer."""
    body = msgspec.json.encode({"id": timer_command(request.timer, request.asked), "timer": request.timer})
    await engine.inbox.schedule(address, request.timer, at_ms=request.at_ms, verb="timer", body=body)


async def hand_over_all(engine: Engine, address: Address, requests: list[HandOver]) -> None:
    """Make the hand-overs of the actor at `address`, in order."""
    for request in requests:
        if isinstance(request, Schedule):
            await set_timer(engine, address, request)
        else:
            await hand_over(engine, request)


async def until_answered(attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until the log answers: a result that was paid for is stored or refused, never dropped."""
    while True:
        try:
            return await attempt()
        except (LogUnavailable, Conflict) as fault:
            log.warning("result_waits_for_the_log", error=str(fault))
            await asyncio.sleep(RETRY_SECONDS)
