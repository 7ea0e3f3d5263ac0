"""One connection to NATS for a process: requests, publishes and subscriptions.

nats-py connects, authenticates and reconnects. Replies come in on one inbox that lives as long as the connection.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import structlog
from nats import errors
from nats.aio.msg import Msg as NatsMsg
from nats.aio.subscription import Subscription as NatsSubscription

from events.jetstream.client import PENDING_BYTES_MAX, Direct, WireClient, received
from events.jetstream.wire import Msg, publish_command
from events.log import LogError, LogUnavailable

CONNECT_SECONDS_MAX: Final = 10.0
REQUEST_SECONDS: Final = 5.0
LEAVE_SECONDS_MAX: Final = 2.0

log = structlog.get_logger(__name__)


class NatsUnreachable(LogError):
    """No NATS server let us in within the limit."""

    def __init__(self, url: str, cause: BaseException) -> None:
        self.url = url
        self.cause = cause
        why = " ".join(str(cause).split()) or type(cause).__name__
        super().__init__(f"NATS cannot be reached at {_redacted(url)}: {why}. Start it there, or name another address.")


class NoResponders(LogUnavailable):
    """Nobody listens on a subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"nobody answers on {subject}")


Callback = Callable[[Msg], Awaitable[None] | None]


class Subscription:
    """Interest in a subject, until `unsubscribe`."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def unsubscribe(self) -> None:
        """End it; after the connection was closed this does nothing."""
        with contextlib.suppress(errors.Error):
            await self._inner.unsubscribe()


class _Waiting:
    """A request that waits for its replies; without `is_last` the first one is all."""

    __slots__ = ("future", "is_last", "replies")

    def __init__(self, is_last: Callable[[Msg], bool] | None) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_last = is_last
        self.replies: list[Msg] = []

    def take(self, msg: Msg) -> None:
        self.replies.append(msg)
        if (self.is_last is None or self.is_last(msg)) and not self.future.done():
            self.future.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(LogUnavailable(reason))


class Bus:
    """What a process does with NATS. Made by `connect`."""

    def __init__(self, on_closed: Callable[[], None] | None = None) -> None:
        self.closed = asyncio.Event()
        self._client = WireClient()
        self._on_closed = on_closed
        self._leaving = False
        self._up = asyncio.Event()
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0
        self._inbox = ""
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}

    @property
    def connected(self) -> bool:
        """Whether a server is there now; while not, publishes are kept and requests wait."""
        return self._up.is_set()

    @property
    def server_version(self) -> str:
        """The version of the server we are connected to, `2.15.1`."""
        return repr(self._client.connected_server_version).removeprefix("<nats server v").removesuffix(">")

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        return self._client.new_inbox()

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnect, subscriptions standing again; the returned function ends that."""
        key = object()
        self._reconnect_callbacks[key] = callback
        return lambda: self._reconnect_callbacks.pop(key, None) and None

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
        """Send and return the answer. Raises NoResponders, and LogUnavailable when none comes within `seconds`."""
        reply = (await self._ask(subject, body, headers=headers, seconds=seconds, is_last=None))[0]
        if reply.status == "503" and not reply.body:
            raise NoResponders(subject)
        return reply

    async def request_many(
        self, subject: str, body: bytes, *, is_last: Callable[[Msg], bool], seconds: float = REQUEST_SECONDS
    ) -> list[Msg]:
        """Send and return the replies up to the one that `is_last`; raises as `request` does."""
        replies = await self._ask(subject, body, headers=None, seconds=seconds, is_last=is_last)
        if replies[0].status == "503" and not replies[0].body:
            raise NoResponders(subject)
        return replies

    async def subscribe(self, subject: str, callback: Callback, *, queue: str = "") -> Subscription:
        """Call `callback` for each message: a plain function at once from the reading task, so it must be short and
        must not fail; a coroutine function one message after another in a task of the subscription."""
        client = cast("Any", self._client)  # nats-py says Future without saying of what
        try:
            if inspect.iscoroutinefunction(callback):
                return Subscription(await client.subscribe(subject, queue, cb=_in_order(callback)))
            return Subscription(await client.subscribe(subject, queue, future=Direct(callback)))
        except errors.Error as error:
            raise LogUnavailable(f"cannot subscribe: {error}") from error

    async def flush(self, seconds: float = REQUEST_SECONDS) -> None:
        """Return when the server has taken in all that was sent so far; raises LogUnavailable."""
        try:
            await asyncio.wait_for(self._client.flush(), seconds)
        except (errors.Error, TimeoutError, OSError) as error:
            raise LogUnavailable("the server did not answer a ping in time") from error

    async def _ask(
        self,
        subject: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None,
        seconds: float,
        is_last: Callable[[Msg], bool] | None,
    ) -> list[Msg]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if not self._up.is_set():
            await self._until_up(seconds)
        self._count += 1
        token = str(self._count)
        waiting = self._waiting[token] = _Waiting(is_last)
        timer = loop.call_at(deadline, waiting.fail, f"no answer on {subject[:200]} within {seconds:g} s")
        try:
            await self.publish(subject, body, headers=headers, reply=f"{self._inbox}.{token}")
            await waiting.future
        finally:
            timer.cancel()
            del self._waiting[token]
            waiting.future.cancel()
        return waiting.replies

    async def _until_up(self, seconds: float) -> None:
        if self.closed.is_set():
            raise LogUnavailable("the connection to NATS is closed")
        try:
            await asyncio.wait_for(self._up.wait(), seconds)
        except TimeoutError:
            raise LogUnavailable(f"no connection to NATS for {seconds:g} s") from None

    def _take_reply(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject[len(self._inbox) + 1 :])
        if waiting is not None:
            waiting.take(msg)

    async def open(self, url: str, *, name: str, options: Mapping[str, Any], seconds: float) -> None:
        """Connect within `seconds`; raises NatsUnreachable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                await self._try_open(url, name=name, options=options, seconds=max(deadline - loop.time(), 0.1))
                break
            except (OSError, TimeoutError, ValueError, errors.Error) as cause:
                refused = isinstance(cause, ValueError) or "authorization" in str(cause).lower()
                if refused or loop.time() >= deadline:
                    raise NatsUnreachable(url, cause) from cause
            await asyncio.sleep(0.05)
        self._inbox = self.new_inbox()
        await self.subscribe(f"{self._inbox}.*", self._take_reply)
        self._up.set()

    async def _try_open(self, url: str, *, name: str, options: Mapping[str, Any], seconds: float) -> None:
        servers = [part.strip() for part in url.split(",")]
        async with asyncio.timeout(seconds):
            await _reach(servers)
            self._client = WireClient()
            try:
                # One attempt at a time: with reconnecting allowed nats-py tries for ever, also with a wrong password.
                await self._client.connect(
                    servers,
                    name=name,
                    allow_reconnect=False,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # pyright: ignore[reportArgumentType] - seconds; it takes fractions
                    ping_interval=20,
                    pending_size=PENDING_BYTES_MAX,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_client_closed,
                    **options,
                )
            except BaseException:
                with contextlib.suppress(Exception):
                    await self._client.close()
                raise
        self._client.options["allow_reconnect"] = True

    async def leave(self) -> None:
        """Send what is still to be sent and close; `on_closed` is not called."""
        self._leaving = True
        self._up.clear()
        if self._client.is_connected:
            with contextlib.suppress(LogUnavailable):
                await self.flush(LEAVE_SECONDS_MAX)
        await self._client.close()
        self.closed.set()

    async def _on_error(self, error: Exception) -> None:
        if self._up.is_set():
            log.warning("nats_error", error=str(error) or type(error).__name__)

    async def _on_disconnected(self) -> None:
        if not self._up.is_set():
            return
        self._up.clear()
        log.warning("nats_disconnected")
        for waiting in list(self._waiting.values()):
            waiting.fail("the connection to NATS was lost before the answer came")

    async def _on_reconnected(self) -> None:
        log.info("nats_reconnected", server_version=self.server_version)
        self._up.set()
        for callback in list(self._reconnect_callbacks.values()):
            try:
                callback()
            except Exception:
                log.exception("nats_reconnect_callback_failed")

    async def _on_client_closed(self) -> None:
        if self._leaving or not self._inbox:
            return
        self._up.clear()
        self.closed.set()
        log.error("nats_closed", reason=str(self._client.last_error or ""))
        if self._on_closed is not None:
            self._on_closed()


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

    It reconnects for ever by itself. `on_closed` is called if the connection is lost for good, and ends the process.
    Raises NatsUnreachable.
    """
    options: dict[str, Any] = {"inbox_prefix": inbox_prefix}
    if user:
        options |= {"user": user, "password": password}
    if credentials is not None:
        options["user_credentials"] = credentials
    bus = Bus(on_closed)
    await bus.open(url, name=name, options=options, seconds=seconds)
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


async def _reach(servers: list[str]) -> None:
    """Return when one of `servers` takes a TCP connection: nats-py's own first attempt takes two seconds to fail."""
    failure: OSError = OSError("no address")
    for server in servers:
        address = urlsplit(server if "://" in server else f"nats://{server}")
        try:
            _, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
        except OSError as error:
            failure = error
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return
    raise failure


def _redacted(url: str) -> str:
    return ",".join(
        f"{part.partition('://')[0]}://{part.rpartition('@')[2]}" if "@" in part else part for part in url.split(",")
    )
