"""Requests and their replies, over one inbox that lives as long as the connection."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from events.jetstream.wire import Msg
from events.log import LogUnavailable

REQUEST_SECONDS: Final = 5.0


class Publish(Protocol):
    def __call__(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None, reply: str
    ) -> Awaitable[None]: ...


class NoResponders(LogUnavailable):
    """Nobody listens on a subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"nobody answers on {subject}")


class _Waiting:
    """A request and the replies it has; without `is_last` the first one is all."""

    __slots__ = ("_told", "future", "is_last", "replies", "timer")

    def __init__(self, is_last: Callable[[Msg], bool] | None) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_last = is_last
        self.replies: list[Msg] = []
        self.timer: asyncio.TimerHandle | None = None
        self._told = 0

    def take(self, msg: Msg) -> None:
        if self.future.done():
            return
        self.replies.append(msg)
        if self.is_last is None or self.is_last(msg):
            self.future.set_result(None)

    def expire(self, seconds: float, subject: str) -> None:
        """Give up if no reply has come since the last time; who is being answered gets `seconds` more."""
        if len(self.replies) == self._told:
            self.fail(f"no answer on {subject[:200]} within {seconds:g} s")
            return
        self._told = len(self.replies)
        self.timer = asyncio.get_running_loop().call_later(seconds, self.expire, seconds, subject)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(LogUnavailable(reason))

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.future.done() and not self.future.cancelled():
            self.future.exception()  # asyncio complains of one that nobody asked for


class Replies:
    """The requests that wait for their replies below the subject `inbox`."""

    def __init__(self, inbox: str, publish: Publish) -> None:
        self.inbox = inbox
        self._publish = publish
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0

    async def ask(
        self,
        subject: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None,
        seconds: float,
        is_last: Callable[[Msg], bool] | None = None,
    ) -> list[Msg]:
        """Send and return the replies up to the one that `is_last`, each within `seconds` of the one before.

        Raises NoResponders, LogUnavailable.
        """
        self._count += 1
        token = str(self._count)
        waiting = self._waiting[token] = _Waiting(is_last)
        waiting.timer = asyncio.get_running_loop().call_later(seconds, waiting.expire, seconds, subject)
        try:
            await self._publish(subject, body, headers=headers, reply=f"{self.inbox}.{token}")
            await waiting.future
        finally:
            waiting.end()
            del self._waiting[token]
        if waiting.replies[0].status == "503" and not waiting.replies[0].body:
            raise NoResponders(subject)
        return waiting.replies

    def take(self, msg: Msg) -> None:
        """Give a reply to its request; one that came too late belongs to nobody."""
        waiting = self._waiting.get(msg.subject[len(self.inbox) + 1 :])
        if waiting is not None:
            waiting.take(msg)

    def fail(self, reason: str) -> None:
        """End all waiting: their replies are lost."""
        for waiting in self._waiting.values():
            waiting.fail(reason)
