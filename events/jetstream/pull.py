"""Pulling work: one request for as many messages as there are free slots, each handed over as it comes in."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import msgspec
import structlog

from events.jetstream.api import SECOND
from events.jetstream.connection import Bus, Subscription
from events.jetstream.replies import REQUEST_SECONDS
from events.jetstream.wire import Msg
from events.log import LogUnavailable

EXPIRES_SECONDS: Final = 2.0
"""For so long work still goes to a process that was stopped."""
SILENCE_FACTOR: Final = 2
"""Of a pull that was open for so many times its own time without a word the request was lost."""
AGAIN_SECONDS: Final = 0.25
BATCH_MAX: Final = 1000

log = structlog.get_logger(__name__)


class Delivery(msgspec.Struct, frozen=True):
    """A message of a work consumer: `seq` in its stream, `delivered` so many times, `received` in monotonic seconds."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    reply: str
    stream: str
    seq: int
    delivered: int
    consumer_seq: int
    received: float
    bus: Bus
    stored_ms: int = 0
    """When the server took it in, by its clock, in ms since the epoch."""

    async def ack(self) -> None:
        """Done; not waited for, so the server may still deliver it again. Raises LogUnavailable."""
        await self.bus.publish(self.reply, b"")

    async def ack_sync(self, *, seconds: float = REQUEST_SECONDS) -> None:
        """Done, and the server knows it. Raises LogUnavailable."""
        await self.bus.request(self.reply, b"", seconds=seconds)

    async def nak(self, seconds: float = 0.0) -> None:
        """Deliver it again, not before `seconds` have passed. Raises LogUnavailable."""
        delay = b' {"delay": %d}' % round(seconds * SECOND) if seconds > 0 else b""
        await self.bus.publish(self.reply, b"-NAK" + delay)

    async def progress(self) -> None:
        """Still at it: the server waits for another ack_wait. Raises LogUnavailable."""
        await self.bus.publish(self.reply, b"+WPI")


class Pull:
    """Keeps one request for `free()` messages open while there are free slots, from `start` to `stop`.

    `deliver` is called from the reading task, so it must only take the message over; `free` must count it from then on.
    `gone` is told when the server says that there is no such consumer. A request stays open for `expires_seconds`.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        deliver: Callable[[Delivery], None],
        free: Callable[[], int],
        gone: Callable[[], None] = lambda: None,
        expires_seconds: float = EXPIRES_SECONDS,
    ) -> None:
        self.stream = stream
        self.consumer = consumer
        self.missing = False
        """Whether the server last said that there is no such consumer."""
        self._bus = bus
        self._deliver = deliver
        self._free = free
        self._gone = gone
        self._expires_seconds = expires_seconds
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = bus.new_inbox()
        self._number = 0
        self._open = 0
        self._failed = ""
        self._told = ""
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._forget_reconnect: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Begin to pull; raises LogUnavailable."""
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._take)
        self._forget_reconnect = self._bus.on_reconnect(self._on_reconnect)
        self._task = asyncio.create_task(self._run(), name=f"pull {self.consumer}")

    @property
    def awaited(self) -> int:
        """How many messages the open request may still bring; pulls that share slots must count each other's."""
        return self._open

    def poke(self) -> None:
        """Say that slots may have become free."""
        if not self._open:
            self._wake.set()

    async def stop(self) -> None:
        """Pull nothing more. What was handed over stays with its owner; what still comes in will come again."""
        self._forget_reconnect()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if self._failed:
                self._failed = ""
                await asyncio.sleep(AGAIN_SECONDS)
            free = min(self._free(), BATCH_MAX)
            if self._open or free <= 0 or not self._bus.connected:
                await self._wake.wait()
                continue
            guard = loop.call_later(SILENCE_FACTOR * self._expires_seconds, self._on_silence, self._number + 1)
            try:
                await self._ask(free)
                while self._open:  # a poke from before it asked must not take its guard away
                    self._wake.clear()
                    await self._wake.wait()
            finally:
                guard.cancel()

    async def _ask(self, batch: int) -> None:
        self._number += 1
        self._open = batch
        request = b'{"batch":%d,"expires":%d}' % (batch, round(self._expires_seconds * SECOND))
        try:
            await self._bus.publish(self._next, request, reply=f"{self._inbox}.{self._number}")
        except LogUnavailable as error:
            self._end(str(error))

    def _take(self, msg: Msg) -> None:
        if msg.status and not msg.reply:
            self._take_status(msg)
            return
        self._deliver(delivery(self._bus, msg))
        self.missing = False
        self._open -= 1
        if self._open <= 0:
            self._end()

    def _take_status(self, msg: Msg) -> None:
        if msg.subject != f"{self._inbox}.{self._number}":
            return
        description = msg.description
        if msg.status in {"404", "408"} or description == "Batch Completed":
            self._end()
            return
        self.missing = msg.status == "503" or description == "Consumer Deleted"
        self._end(f"{msg.status} {description}".strip())
        if self.missing:
            self._gone()

    def _end(self, failed: str = "") -> None:
        self._open = 0
        self._failed = failed
        self._wake.set()
        if failed and failed != self._told:
            log.info("pull_failed", consumer=self.consumer, reason=failed)
        self._told = failed

    def _on_silence(self, number: int) -> None:
        if number == self._number and self._open:
            self._end("no word of the pull in time")

    def _on_reconnect(self) -> None:
        self._end()


def delivery(bus: Bus, msg: Msg) -> Delivery:
    """Return what a consumer delivered, read from its reply subject in either form:

    `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>`, or with `<domain>.<account>` before
    the stream and perhaps a random token at the end. Raises ValueError on another.
    """
    tokens = msg.reply.split(".")
    if len(tokens) < 9 or tokens[0] != "$JS" or tokens[1] != "ACK":
        raise ValueError(f"not a delivery of a consumer: reply {msg.reply[:200]!r}")
    at = 2 if len(tokens) == 9 else 4
    return Delivery(
        subject=msg.subject,
        headers=msg.headers,
        body=msg.body,
        reply=msg.reply,
        stream=tokens[at],
        seq=int(tokens[at + 3]),
        delivered=int(tokens[at + 2]),
        consumer_seq=int(tokens[at + 4]),
        received=time.monotonic(),
        bus=bus,
        stored_ms=int(tokens[at + 5]) // 1_000_000,
    )
