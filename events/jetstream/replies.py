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

    __slots__ = ("future", "is_last", "replies")

    def __init__(self, is_last: Callable[[Msg], bool] | None) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_last = is_last
        self.replies: list[Msg] = []

    def take(self, msg: Msg) -> None:
        if self.future.done():
            return
        self.replies.append(msg)
        if self.is_last is None or self.is_last(msg):
            self.future.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(LogUnavailable(reason))


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
        deadline: float,
        is_last: Callable[[Msg], bool] | None = None,
    ) -> list[Msg]:
        """Send and return the replies up to the one that `is_last`, all before `deadline` (the loop's time).

        Raises NoResponders, LogUnavailable.
        """
        self._count += 1
        token = str(self._count)
        waiting = self._waiting[token] = _Waiting(is_last)
        timer = asyncio.get_running_loop().call_at(deadline, waiting.fail, f"no answer on {subject[:200]} in time")
        try:
            await self._publish(subject, body, headers=headers, reply=f"{self.inbox}.{token}")
            await waiting.future
        finally:
            timer.cancel()
            del self._waiting[token]
            if waiting.future.done() and not waiting.future.cancelled():
                waiting.future.exception()  # asyncio complains of one that nobody asked for
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
