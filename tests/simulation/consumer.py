"""A durable pull consumer: what it delivered stays open until it is acked, by whomever and however late, and else comes again."""

from typing import TYPE_CHECKING, Any

import msgspec

from events.jetstream.wire import DESCRIPTION, STATUS, Msg
from tests.simulation.link import Link

if TYPE_CHECKING:
    from tests.simulation.server import Server, Stored


class Open(msgspec.Struct):
    """A message out for work: due again at `due`, delivered so often."""

    stored: "Any"
    due: float
    delivered: int
    away: bool = True
    """Whether it is out; else it waits to be delivered again."""
    holder: str = ""
    """The process that it was handed to last."""


class Pull(msgspec.Struct):
    """A request for messages."""

    link: Link
    reply: str
    left: int
    until: float


class Consumer:
    """The queue of one `<to>`, or of the inbox."""

    def __init__(self, server: "Server", stream: str, name: str, messages: "list[Stored]") -> None:
        self.server = server
        self.world = server.world
        self.stream = stream
        self.name = name
        self.messages = messages
        self.ack_wait = 8.0
        self.next = 0
        self.count = 0
        self.open: dict[int, Open] = {}
        self.again: list[int] = []
        self.pulls: list[Pull] = []
        self.alive = True

    def begin(self, start: int) -> None:
        """Begin at a sequence of the stream."""
        while self.next < len(self.messages) and self.messages[self.next].seq < start:
            self.next += 1

    @property
    def idle(self) -> bool:
        """Whether nothing is out or waits."""
        return not self.open and self.next == len(self.messages)

    def floor(self) -> int:
        """Return up to which sequence everything was acked."""
        if self.open:
            return min(self.open) - 1
        return self.messages[self.next - 1].seq if self.next else 0

    def ask(self, link: Link, reply: str, *, batch: int, expires: float) -> None:
        pull = Pull(link, reply, batch, self.world.now + expires)
        self.pulls.append(pull)
        self.world.after(expires, self._expire, pull)
        self.pump()

    def _expire(self, pull: Pull) -> None:
        if pull in self.pulls:
            self.pulls.remove(pull)
            pull.link.send(pull.reply, Msg(pull.reply, {STATUS: "408", DESCRIPTION: "Request Timeout"}, b""))

    def pump(self) -> None:
        """Deliver what there is to who asked first."""
        while self.pulls and not self.server.down and self.alive:
            pull = self.pulls[0]
            if not pull.link.open:
                self.pulls.pop(0)
                continue
            if not self._deliver(pull):
                return
            pull.left -= 1
            if pull.left <= 0:
                self.pulls.pop(0)

    def _deliver(self, pull: Pull) -> bool:
        while self.again:
            entry = self.open.get(self.again.pop(0))
            if entry is not None and not entry.away:
                break
        else:
            if self.next >= len(self.messages):
                return False
            stored = self.messages[self.next]
            self.next += 1
            entry = self.open[stored.seq] = Open(stored, 0.0, 0)
        entry.away = True
        entry.delivered += 1
        entry.holder = pull.link.loop.name
        self.server.again += entry.delivered == 2
        entry.due = self.world.now + self.ack_wait
        self.count += 1
        stored = entry.stored
        self.world.at(entry.due, self._overdue, stored.seq, entry.delivered)
        reply = f"$JS.ACK.{self.stream}.{self.name}.{entry.delivered}.{stored.seq}.{self.count}.0.0"
        pull.link.send(pull.reply, Msg(stored.subject, stored.headers, stored.body, reply))
        stops = self.server.weather.stops
        if stops and self.world.random.random() < stops:
            self.world.after(self.world.random.random() * 0.02, self.server.stops, pull.link.loop.name)
        if self.server.say is not None:
            self.server.say(f"{self.name} {stored.seq} to {pull.link.loop.name}, time {entry.delivered}")
        return True

    def _overdue(self, seq: int, delivered: int) -> None:
        entry = self.open.get(seq)
        if entry is None or entry.delivered != delivered or not entry.away or not self.alive:
            return
        if entry.due > self.world.now:
            self.world.at(entry.due, self._overdue, seq, delivered)
            return
        self._return(seq, entry)

    def _return(self, seq: int, entry: Open) -> None:
        entry.away = False
        self.again.append(seq)
        self.pump()

    def ack(self, seq: int) -> None:
        if self.server.say is not None:
            self.server.say(f"{self.name} {seq} acked")
        self.open.pop(seq, None)

    def nak(self, seq: int, delay: float) -> None:
        entry = self.open.get(seq)
        if entry is None or not entry.away:
            return
        if delay <= 0:
            self._return(seq, entry)
        else:
            entry.due = self.world.now + delay
            self.world.at(entry.due, self._overdue, seq, entry.delivered)

    def progress(self, seq: int) -> None:
        entry = self.open.get(seq)
        if entry is not None and entry.away:
            entry.due = self.world.now + self.ack_wait

    def lose_leader(self) -> None:
        self.pulls.clear()
        for seq, entry in self.open.items():
            if entry.away:
                entry.away = False
                self.again.append(seq)
        self.world.after(0.001, self.pump)

    def tell_deleted(self) -> None:
        self.alive = False
        for pull in self.pulls:
            pull.link.send(pull.reply, Msg(pull.reply, {STATUS: "409", DESCRIPTION: "Consumer Deleted"}, b""))
        self.pulls.clear()
