"""What a worker holds: each message in hand beats until it is settled, and its performer answers that it is alive (T5, T7)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import structlog

from actors.decider import Perform
from actors.mailbox import Mailbox
from actors.tool_state import ToolState
from events.clock import Clock
from events.log import LogError

log = structlog.get_logger()


class Delivery(Protocol):
    """A message in hand."""

    @property
    def stream(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def received(self) -> float: ...

    async def ack(self) -> None: ...

    async def nak(self, seconds: float) -> None: ...

    async def progress(self) -> None: ...


class Held:
    """One message in hand, and the effect performed on its ticket, if any."""

    def __init__(self, delivery: Delivery, *, ack_wait_seconds: float, clock: Clock) -> None:
        self.delivery = delivery
        self.ack_wait_seconds = ack_wait_seconds
        self.clock = clock
        self.beaten = clock.monotonic()
        self.lost = False
        self.box: Mailbox[Any] | None = None
        self.request: Perform | None = None
        self.effect: asyncio.Future[Any] | None = None
        self.unsubscribe: Callable[[], Awaitable[None]] | None = None

    @property
    def late(self) -> bool:
        """Whether the message was away from us for longer than the server waits: then it is another's."""
        return self.lost or self.clock.monotonic() - self.beaten > self.ack_wait_seconds

    async def settle(self) -> None:
        """Ack, unless the message is late (a zombie's ack would delete another's ticket)."""
        if not self.late:
            await self.delivery.ack()


class Beat:
    """One task that keeps all messages in hand alive, and stops effects that are no longer asked for."""

    def __init__(
        self,
        *,
        ack_wait_seconds: float,
        clock: Clock,
        answer_for: Callable[[int], Awaitable[Callable[[], Awaitable[None]]]],
    ) -> None:
        self.ack_wait_seconds = ack_wait_seconds
        self.clock = clock
        self.answer_for = answer_for
        self.held: dict[tuple[str, int], Held] = {}
        self._any = asyncio.Event()

    def hold(self, key: tuple[str, int], held: Held) -> None:
        """Keep a message alive from now on."""
        self.held[key] = held
        self._any.set()

    def drop(self, key: tuple[str, int]) -> None:
        """Forget a message that is settled."""
        self.held.pop(key, None)
        if not self.held:
            self._any.clear()

    async def run(self) -> None:
        """Beat until cancelled; with nothing in hand there is nothing to beat for."""
        while True:
            await self._any.wait()
            oldest = min((held.beaten for held in self.held.values()), default=self.clock.monotonic())
            due = oldest + self.ack_wait_seconds / 3
            await asyncio.sleep(max(due - self.clock.monotonic(), self.ack_wait_seconds / 60))
            now = self.clock.monotonic()
            for held in list(self.held.values()):
                if now - held.beaten >= self.ack_wait_seconds / 3:
                    await self._one(held, now)

    async def _one(self, held: Held, now: float) -> None:
        if now - held.beaten > self.ack_wait_seconds:
            held.lost = True
        try:
            if not held.lost:
                await held.delivery.progress()
            held.beaten = now
            await self._answer(held)
            await self._still_asked(held)
        except LogError as fault:
            log.warning("beat_missed", seq=held.delivery.seq, error=str(fault))

    async def answer_all(self) -> None:
        """Answer for every effect in hand at once, as after a reconnect, when all tickets may be delivered again."""
        for held in list(self.held.values()):
            with suppress(LogError):
                await self._answer(held)

    async def _answer(self, held: Held) -> None:
        if held.effect is not None and held.unsubscribe is None:
            held.unsubscribe = await self.answer_for(held.delivery.seq)

    def stop_unasked(self, box: Mailbox[Any]) -> None:
        """Stop at once what is performed here for the actor in `box` and is no longer asked for."""
        for held in self.held.values():
            if held.box is box:
                _stop_unasked(held)

    async def _still_asked(self, held: Held) -> None:
        box = held.box
        if box is None or held.effect is None or held.effect.done():
            return
        last = await box.facts.peek(box.address.fence)
        if last is not None and last.seq > box.seen.last:
            async with box.turn:
                await box.read_to(last.seq)
        _stop_unasked(held)


def _stop_unasked(held: Held) -> None:
    box, request, effect = held.box, held.request, held.effect
    if box is None or request is None or effect is None or effect.done():
        return
    state = box.state
    if isinstance(state, ToolState) and state.may_settle(request.epoch):
        return
    if request not in box.decider.pending(state):
        log.info("effect_stopped", actor=str(box.address), ticket=request.ticket, epoch=request.epoch)
        effect.cancel()
