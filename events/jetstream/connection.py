"""One connection to NATS for a process: requests, publishes and subscriptions.

nats-py connects, authenticates and reconnects; what it gives and takes is typed here, and limited.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import structlog
from nats import errors
from nats.aio.msg import Msg as NatsMsg
from nats.aio.subscription import Subscription as NatsSubscription

from events.jetstream.client import Direct, WireClient, received
from events.jetstream.dial import NatsUnreachable, dial
from events.jetstream.replies import REQUEST_SECONDS, NoResponders, Replies
from events.jetstream.wire import Msg, Oversized, publish_command
from events.log import LogUnavailable

__all__ = ["Bus", "Msg", "NatsUnreachable", "NoResponders", "Oversized", "Subscription", "connect"]

CONNECT_SECONDS_MAX: Final = 10.0
LEAVE_SECONDS_MAX: Final = 2.0

Callback = Callable[[Msg], Awaitable[None] | None]

log = structlog.get_logger(__name__)


class Subscription:
    """Interest in a subject, until `unsubscribe`."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def unsubscribe(self) -> None:
        """End it; after the connection was closed this does nothing."""
        with contextlib.suppress(errors.Error):
            await self._inner.unsubscribe()


class Bus:
    """What a process does with NATS. Made by `connect`."""

    def __init__(self, on_closed: Callable[[], None] | None = None) -> None:
        self.closed = asyncio.Event()
        """Set when the connection is gone for good."""
        self._client = WireClient()
        self._replies = Replies("", self.publish)
        self._on_closed = on_closed
        self._leaving = False
        self._up = asyncio.Event()
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}

    @property
    def connected(self) -> bool:
        """Whether a server is there now; while not, publishes are kept and requests wait."""
        return self._up.is_set() and not self.closed.is_set()

    @property
    def server_version(self) -> str:
        """The version of the server we are connected to, `2.15.1`."""
        return repr(self._client.connected_server_version).removeprefix("<nats server v").removesuffix(">")

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        return self._client.new_inbox()

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnect, subscriptions standing again, and when all is over (`closed` is set).

        The returned function ends that.
        """
        key = object()
        self._reconnect_callbacks[key] = callback

        def forget() -> None:
            self._reconnect_callbacks.pop(key, None)

        return forget

    async def publish(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send without an answer; kept (up to 2 MB) while no server is there. Raises Oversized, LogUnavailable."""
        command = publish_command(subject, body, headers=headers, reply=reply)
        try:
            await self._client.send(command)
        except errors.Error as error:
            raise LogUnavailable(f"cannot publish: {error}") from error

    async def request(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None, seconds: float = REQUEST_SECONDS
    ) -> Msg:
        """Send and return the answer. Raises NoResponders, and LogUnavailable when none comes within `seconds`.

        What was sent may still arrive: no answer is not "not done".
        """
        left = seconds if self.connected else await self._until_up(seconds)
        return (await self._replies.ask(subject, body, headers=headers, seconds=left))[0]

    async def request_many(
        self, subject: str, body: bytes, *, is_last: Callable[[Msg], bool], seconds: float = REQUEST_SECONDS
    ) -> list[Msg]:
        """Send and return the replies up to the one that `is_last`, each within `seconds`; raises as `request` does."""
        left = seconds if self.connected else await self._until_up(seconds)
        return await self._replies.ask(subject, body, headers=None, seconds=left, is_last=is_last)

    async def subscribe(self, subject: str, callback: Callback, *, queue: str = "") -> Subscription:
        """Call `callback` for each message: a plain function at once from the reading task, so it must be short;
        a coroutine function one message after another in a task of the subscription. Raises LogUnavailable."""
        client = cast("Any", self._client)  # nats-py says Future without saying of what
        try:
            if inspect.iscoroutinefunction(callback):
                return Subscription(await client.subscribe(subject, queue, cb=_in_order(callback)))
            return Subscription(await client.subscribe(subject, queue, future=Direct(callback)))
        except errors.Error as error:
            raise LogUnavailable(f"cannot subscribe to {subject[:200]}: {error}") from error

    async def flush(self, seconds: float = REQUEST_SECONDS) -> None:
        """Return when the server has taken in all that was sent so far. Raises LogUnavailable."""
        try:
            await asyncio.wait_for(self._client.flush(), seconds)
        except (errors.Error, TimeoutError, OSError) as error:
            raise LogUnavailable("the server did not answer a ping in time") from error

    async def open(self, url: str, *, seconds: float, options: Mapping[str, Any]) -> None:
        """Connect within `seconds`. Raises NatsUnreachable."""
        callbacks = {
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_client_closed,
        }
        self._client = await dial(url, seconds=seconds, options={**options, **callbacks})
        self._replies = Replies(self.new_inbox(), self.publish)
        await self.subscribe(f"{self._replies.inbox}.*", self._replies.take)
        self._up.set()

    async def leave(self) -> None:
        """Send what is still to be sent and close; `on_closed` is not called."""
        self._leaving = True
        self._up.clear()
        if self._client.is_connected:
            with contextlib.suppress(LogUnavailable):
                await self.flush(LEAVE_SECONDS_MAX)
        await self._client.close()
        self._over()

    async def _until_up(self, seconds: float) -> float:
        """Wait for a server and return how many of the `seconds` are left."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._up.wait()
        except TimeoutError:
            raise LogUnavailable(f"no connection to NATS for {seconds:g} s") from None
        if self.closed.is_set():
            raise LogUnavailable("the connection to NATS is closed")
        return deadline - asyncio.get_running_loop().time()

    # nats-py would stop reading or reconnecting if one of these raised.

    async def _on_error(self, error: Exception) -> None:
        if self.connected:
            log.warning("nats_error", error=str(error) or type(error).__name__)

    async def _on_disconnected(self) -> None:
        if self.connected:
            self._up.clear()
            log.warning("nats_disconnected")
            self._replies.fail("the connection to NATS was lost before the answer came")

    async def _on_reconnected(self) -> None:
        log.info("nats_reconnected", server_version=self.server_version)
        self._up.set()
        self._call_back()

    async def _on_client_closed(self) -> None:
        if self._leaving or not self._replies.inbox:
            return
        log.error("nats_closed", reason=str(self._client.last_error or ""))
        self._over()
        if self._on_closed is not None:
            self._on_closed()

    def _over(self) -> None:
        self.closed.set()
        self._up.set()  # who waits for a server need not wait longer
        self._replies.fail("the connection to NATS is closed")
        self._call_back()

    def _call_back(self) -> None:
        for callback in list(self._reconnect_callbacks.values()):
            try:
                callback()
            except Exception:
                log.exception("nats_reconnect_callback_failed")


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    name: str,
    on_closed: Callable[[], None] | None = None,
    user: str = "",
    password: str = "",
    credentials: Path | None = None,
    inbox_prefix: str = "_INBOX",
    seconds: float = CONNECT_SECONDS_MAX,
) -> AsyncGenerator[Bus, None]:
    """Connect to `url` (or several, by commas) within `seconds`, as `name` in the server's lists, and leave at the end.

    It reconnects for ever by itself; `on_closed` is called when that is over for good, which should end the process.
    Raises NatsUnreachable.
    """
    options: dict[str, Any] = {"name": name, "inbox_prefix": inbox_prefix}
    if user:
        options |= {"user": user, "password": password}
    if credentials is not None:
        options["user_credentials"] = credentials
    bus = Bus(on_closed)
    await bus.open(url, seconds=seconds, options=options)
    try:
        yield bus
    finally:
        await bus.leave()


def _in_order(callback: Callable[[Msg], Awaitable[None] | None]) -> Callable[[NatsMsg], Awaitable[None]]:
    async def relay(msg: NatsMsg) -> None:
        done = callback(received(msg))
        if done is not None:
            await done

    return relay
