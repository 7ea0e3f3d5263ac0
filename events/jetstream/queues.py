"""Work queues: one durable pull consumer on the log per `<to>`, named as it is."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from events.ids import check_token
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.connection import Bus
from events.jetstream.pull import Delivery, Pull
from events.jetstream.streams import ACK_WAIT_SECONDS, put_consumer, work_consumer
from events.jetstream.unfinished import begins_at
from events.jetstream.wire import Msg
from events.log import LogUnavailable
from events.subjects import work_filter

WATCH_SECONDS: Final = 5.0
CREATED: Final = f"$JS.EVENT.ADVISORY.CONSUMER.CREATED.{CALLBOARD}.*"

log = structlog.get_logger(__name__)


class _Names(Answer, frozen=True):
    total: int = 0
    consumers: list[str] | None = None


class _Place(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _Consumer(msgspec.Struct, frozen=True):
    name: str
    ack_floor: _Place = _Place()


class _Consumers(Answer, frozen=True):
    total: int = 0
    consumers: list[_Consumer] | None = None


class Queues:
    """The work consumers of the log."""

    def __init__(self, bus: Bus, *, ack_wait_seconds: float = ACK_WAIT_SECONDS) -> None:
        self._bus = bus
        self._ack_wait_seconds = ack_wait_seconds
        self._known: set[str] = set()

    async def ensure(self, to: str, *, start: int | None = None) -> None:
        """Make the queue of `to` unless it was seen already. A new one begins at sequence `start` of the log, by default
        with the oldest unfinished run: what was addressed to it before, when it was lost, is found done.

        Raises InvalidToken, LogUnavailable.
        """
        if to in self._known:
            return
        config = work_consumer(check_token(to, "to"), work_filter(to), ack_wait_seconds=self._ack_wait_seconds)
        if start is None and to not in await self.names():
            start = await begins_at(self._bus, work_filter(to))
            log.info("queue_made", queue=to, start=start)
        if start is not None and start > 1:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
        await put_consumer(self._bus, CALLBOARD, config)
        self._known.add(to)

    async def remake(self, to: str) -> None:
        """Make the queue of `to` if the server has it no more, whatever was seen before; raises as `ensure` does."""
        await self.names()  # forgets what is gone
        await self.ensure(to)

    async def names(self) -> list[str]:
        """Return the `<to>` of every work consumer there is. Raises LogUnavailable."""
        found: list[str] = []
        offset = 0
        while True:
            page = await ask(self._bus, f"CONSUMER.NAMES.{CALLBOARD}", {"offset": offset}, answer=_Names)
            names = page.consumers or []
            found += filter(_is_work, names)
            offset += len(names)
            if not names or offset >= page.total:
                break
        self._known &= set(found)
        return found

    async def floors(self) -> dict[str, int]:
        """Return each work consumer's ack floor: up to that sequence of the log all its notices are acked."""
        found: dict[str, int] = {}
        offset = 0
        while True:
            page = await ask(self._bus, f"CONSUMER.LIST.{CALLBOARD}", {"offset": offset}, answer=_Consumers)
            consumers = page.consumers or []
            found |= {each.name: each.ack_floor.stream_seq for each in consumers if _is_work(each.name)}
            offset += len(consumers)
            if not consumers or offset >= page.total:
                return found

    async def watch(self, callback: Callable[[str], None]) -> None:
        """Call `callback` once for each work consumer there is or comes to be; runs until it is cancelled."""
        watch = _Watch(callback)
        subscription = await self._bus.subscribe(CREATED, watch.created)
        forget_reconnect = self._bus.on_reconnect(watch.look_again)
        try:
            while True:
                try:
                    watch.found(await self.names())
                except LogUnavailable as error:
                    log.info("queues_not_listed", reason=str(error))
                await watch.until_due()
        finally:
            forget_reconnect()
            await subscription.unsubscribe()


class _Watch:
    """Which queues were told, and when to look again."""

    def __init__(self, callback: Callable[[str], None]) -> None:
        self._callback = callback
        self._told: set[str] = set()
        self._fresh: list[str] = []
        self._due = False
        self._wake = asyncio.Event()

    def created(self, msg: Msg) -> None:
        self._fresh.append(msg.subject.rpartition(".")[2])
        self._wake.set()

    def look_again(self) -> None:
        self._due = True
        self._wake.set()

    def found(self, names: list[str]) -> None:
        for name in names:
            if _is_work(name) and name not in self._told:
                self._told.add(name)
                self._callback(name)

    async def until_due(self) -> None:
        """Tell what is created meanwhile; return when it is time to list all again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                while not self._due:
                    fresh, self._fresh = self._fresh, []
                    self.found(fresh)
                    self._wake.clear()
                    await self._wake.wait()
        self._due = False


def _is_work(name: str) -> bool:
    return name == "run" or name.startswith(("start-", "agent-", "tool-"))


__all__ = ["Delivery", "Pull", "Queues"]
