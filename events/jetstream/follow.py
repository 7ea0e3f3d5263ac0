"""Following a scope: an ephemeral pull consumer in the server's memory, made anew behind the last message seen whenever
its own sequence jumps, the connection was lost, or it is gone. So there is no gap and no repeat."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
import structlog

from events.jetstream.api import SECOND, Answer, ask
from events.jetstream.connection import Bus, Subscription
from events.jetstream.reads import Stored
from events.jetstream.wire import Msg
from events.log import LogUnavailable

BATCH: Final = 512
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
EXPIRES_SECONDS: Final = 5.0
SILENCE_SECONDS_MAX: Final = 7.0
INACTIVE_SECONDS_MAX: Final = 30
AGAIN_SECONDS: Final = 0.1
CREATE_SECONDS: Final = 2.0

PULL_ENDED: Final = ("Batch Completed", "Message Size Exceeds MaxBytes")
"""Under status 409, and yet nothing is wrong with the consumer."""

log = structlog.get_logger(__name__)


async def follow(bus: Bus, *, stream: str, scope: str, after: int) -> AsyncGenerator[list[Stored], None]:
    """Yield the messages of `scope` above `after` and each new one, batched as they came in; never ends by itself.

    While the reader is behind at most two pulls' worth is held. Raises LogUnavailable when the connection is closed.
    """
    while True:
        tail = Tail(bus, stream=stream, scope=scope, after=after)
        try:
            await tail.open()
            while batch := await tail.next():
                after = batch[-1].seq
                yield batch
        except LogUnavailable as error:
            if bus.closed.is_set():
                raise
            tail.torn = str(error)
        finally:
            await tail.close()
        log.info("follow_made_again", scope=scope, after=after, reason=tail.torn)
        await asyncio.sleep(AGAIN_SECONDS)


class Tail:
    """One life of the consumer: from `open` until `torn` says why it is of no more use."""

    def __init__(self, bus: Bus, *, stream: str, scope: str, after: int) -> None:
        self.torn = ""
        self._bus = bus
        self._stream = stream
        self._scope = scope
        self._after = after
        self._inbox = bus.new_inbox()
        self._name = f"follow-{self._inbox.rpartition('.')[2]}"
        self._queue: deque[Stored] = deque()
        self._arrived = asyncio.Event()
        self._consumer_seq = 0
        self._pulls = 0
        self._wanted = 0
        self._subscription: Subscription | None = None
        self._forget_reconnect = bus.on_reconnect(self._on_reconnect)

    async def open(self) -> None:
        """Make the consumer; raises LogUnavailable."""
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._take)
        config = {
            "name": self._name,
            "filter_subject": self._scope,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._after + 1,
            "ack_policy": "none",
            "inactive_threshold": INACTIVE_SECONDS_MAX * SECOND,
            "mem_storage": True,
            "num_replicas": 1,
        }
        verb = f"CONSUMER.CREATE.{self._stream}.{self._name}.{self._scope}"
        await ask(
            self._bus,
            verb,
            {"stream_name": self._stream, "config": config, "action": "create"},
            answer=Answer,
            seconds=CREATE_SECONDS,
        )

    async def next(self) -> list[Stored]:
        """Return what has come in, at least one message; empty once the consumer is torn."""
        while True:
            if not self._wanted and not self.torn:
                await self._pull()
            if self._queue:
                batch = list(self._queue)
                self._queue.clear()
                return batch
            if self.torn:
                return []
            self._arrived.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    await self._arrived.wait()
            except TimeoutError:
                self.torn = "no word of the pull in time"

    async def close(self) -> None:
        """Take the consumer away, so that it does not linger until it is inactive for long enough."""
        self._forget_reconnect()
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        if self._bus.connected:
            with contextlib.suppress(LogUnavailable):
                await self._bus.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"")

    async def _pull(self) -> None:
        self._pulls += 1
        self._wanted = BATCH
        request = {"batch": BATCH, "max_bytes": BATCH_BYTES_MAX, "expires": round(EXPIRES_SECONDS * SECOND)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._bus.publish(subject, msgspec.json.encode(request), reply=f"{self._inbox}.{self._pulls}")

    def _take(self, msg: Msg) -> None:
        if self.torn:
            return
        if msg.status and not msg.reply:
            self._take_status(msg)
        else:
            self._take_message(msg)
        self._arrived.set()

    def _take_message(self, msg: Msg) -> None:
        tokens = msg.reply.split(".")
        seq, consumer_seq = int(tokens[-4]), int(tokens[-3])
        if consumer_seq != self._consumer_seq + 1:
            self.torn = f"consumer sequence {consumer_seq} after {self._consumer_seq}"
            return
        self._consumer_seq = consumer_seq
        self._wanted = max(0, self._wanted - 1)
        self._queue.append(Stored(seq, msg))

    def _take_status(self, msg: Msg) -> None:
        if msg.subject != f"{self._inbox}.{self._pulls}":
            return
        self._wanted = 0
        description = msg.description
        if msg.status not in {"404", "408"} and description not in PULL_ENDED:
            self.torn = f"{msg.status} {description}".strip()

    def _on_reconnect(self) -> None:
        self.torn = self.torn or "reconnected"
        self._arrived.set()
