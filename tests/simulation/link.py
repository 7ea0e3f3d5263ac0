"""A process's connection: a Bus whose publishes go to the simulated server, and what the server sends back."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING

from events.jetstream.connection import Bus, Callback, Subscription
from events.jetstream.replies import Replies
from events.jetstream.wire import Msg
from events.log import LogUnavailable
from tests.simulation.loop import Handle, Loop

if TYPE_CHECKING:
    from tests.simulation.server import Server


class Gone(BaseException):
    """The process is dead: nothing it does has an effect."""


class Link:
    """The wire between one process and the server. `open` is what the server thinks; `cut` loses what is sent."""

    def __init__(self, server: "Server", loop: Loop) -> None:
        self.server = server
        self.world = server.world
        self.loop = loop
        self.open = True
        self.cut = False
        self.interests: dict[str, Callable[[Msg], object]] = {}
        self.kept: list[tuple[str, bytes, Mapping[str, str] | None, str]] | None = None
        """What was published since the client knows that the server is away; nats-py sends it after the reconnect."""
        server.links.append(self)

    def delay(self) -> float:
        """Return in how many seconds a message is there; below zero it is lost."""
        chance = self.world.random.random()
        weather = self.server.weather
        if chance < weather.lost:
            return -1.0
        if chance < weather.lost + weather.slow:
            return self.world.random.random() * weather.slow_seconds
        return 0.0002 + chance * 0.002

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        """Send to the server."""
        if not self.loop.alive:
            raise Gone
        if self.kept is not None:
            self.kept.append((subject, body, headers, reply))
            return
        delay = self.delay()
        if delay >= 0 and not self.cut:
            self.world.after(delay, self._arrive, subject, body, headers, reply)

    def _arrive(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        if not self.cut:
            self.server.take(self, subject, body, headers, reply)

    def send(self, subject: str, *msgs: Msg) -> int:
        """Send to the process, if it listens on `subject`; return whether it does. Several messages stay together and in order."""
        listener = self.interests.get(subject) or self.interests.get(f"{subject.rpartition('.')[0]}.*")
        if listener is None or not self.open:
            return 0
        delay = self.delay()
        if delay >= 0 and not self.cut:
            self.world.after(delay, self._reach, listener, msgs)
        return 1

    def _reach(self, listener: Callable[[Msg], object], msgs: tuple[Msg, ...]) -> None:
        if not self.cut:
            self.loop.push(Handle(_tell, (listener, msgs), copy_context(), 0.0))


def _tell(listener: Callable[[Msg], object], msgs: tuple[Msg, ...]) -> None:
    for msg in msgs:
        listener(msg)


class SimulatedBus(Bus):
    """The real Bus but for the socket: requests, their replies and reconnects are its own."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.closed = asyncio.Event()
        self._up = asyncio.Event()
        self._up.set()
        self._leaving = False
        self._on_closed = None
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._inboxes = 0
        self._replies = Replies(self.new_inbox(), self.publish)
        link.interests[f"{self._replies.inbox}.*"] = self._replies.take

    @property
    def server_version(self) -> str:
        return "2.15.1"

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self.link.loop.name}-{self._inboxes}"

    async def publish(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        if self.closed.is_set():
            raise LogUnavailable("cannot publish: the connection is closed")
        self.link.publish(subject, body, headers, reply)

    async def subscribe(self, subject: str, callback: Callback, *, queue: str = "") -> Subscription:
        self.link.interests[subject] = _in_task(self.link.loop, callback)
        return _Interest(self.link, subject)

    async def flush(self, seconds: float = 1.0) -> None:
        pass

    async def leave(self) -> None:
        self.link.open = False

    def lose(self) -> None:
        """The client sees that its connection is gone."""
        self._up.clear()
        self._replies.fail("the connection to NATS was lost before the answer came")
        self.link.kept = []

    def regain(self) -> None:
        """The client is connected again: what was published meanwhile is sent now."""
        kept, self.link.kept = self.link.kept or [], None
        for one in kept:
            self.link.publish(*one)
        self._up.set()
        self._call_back()


def _in_task(loop: Loop, callback: Callback) -> Callable[[Msg], object]:
    if not inspect.iscoroutinefunction(callback):
        return lambda msg: callback(msg)  # noqa: PLW0108 -- the parameter has another name
    return lambda msg: loop.create_task(callback(msg))


class _Interest(Subscription):
    def __init__(self, link: Link, subject: str) -> None:
        self._link = link
        self._subject = subject

    async def unsubscribe(self) -> None:
        self._link.interests.pop(self._subject, None)
