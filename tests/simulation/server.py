"""The server of the simulation: two streams, their consumers, schedules and plain subjects, as JetStream has them, in memory.

What it promises it keeps (a fenced append, order in a stream, an ack that counts however late); all else fails as the seed says:
messages are lost, late, answered and the answer lost; replicas lag; a leader's death delivers everything again.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from events.envelope import from_rfc3339
from events.jetstream.append import EXPECTED, EXPECTED_SUBJECT
from events.jetstream.inbox import SCHEDULE, TARGET
from events.jetstream.reads import PENDING, SEQUENCE, SUBJECT
from events.jetstream.wire import DESCRIPTION, STATUS, Msg
from events.memory import matches
from tests.simulation.consumer import Consumer
from tests.simulation.link import Link
from tests.simulation.loop import World

SECOND: Final = 1_000_000_000
BEGAN_MS: Final = 1_790_000_000_000
INDEXED: Final = (4, 5, 6)
"""How many dots a filter has that is kept as a list: of a run, an agent or run, a call."""
NO_HEADERS: Final[Mapping[str, str]] = {}
_json = msgspec.json.Decoder()


class Stored(msgspec.Struct, gc=False):
    """A message of a stream; `at` is the world's time when it was stored."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes
    at: float


class Weather(msgspec.Struct):
    """How bad things are: chances of one message, seconds of a delay, how late replicas are."""

    lost: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 3.0
    replica_seconds: float = 0.0
    in_flight: float = 0.0
    """The chance that an append is told of a write in flight (10164), and that one that is stored is not answered."""
    stops: float = 0.0
    """The chance that who is handed a message is stopped with it in its hand, for longer than a ticket waits."""
    timer_seconds: float = 0.3
    timer_twice: float = 0.0


CALM: Final = Weather()
Moment = Literal["step", "append", "ack", "beat"]


class Server:
    """One JetStream, however many nodes it may have."""

    def __init__(self, world: World, weather: Weather, stored: Callable[[Stored], None]) -> None:
        self.world = world
        self.weather = weather
        self.stored = stored
        self.down = False
        self.again = 0
        """How many messages were delivered more than once."""
        self.stops: Callable[[str], None] = lambda _: None
        """Stops the process of that name."""
        self.say: Callable[[str], None] | None = None
        self.moment: Callable[[Moment, str], None] | None = None
        """Is told of each append, ack and heartbeat of the process of that name, if anything is to happen behind one."""
        self.used = 0.0
        """The part of its limit that the log has taken; at 1 it takes no more."""
        self.acked: Callable[[Link, Consumer, int], None] = lambda *_: None
        """Is asked about each ack before it counts."""
        self.log: list[Stored] = []
        self.scopes: dict[str, list[Stored]] = defaultdict(list)
        """The messages of a scope that was asked for or appended under, by its filter without `>`."""
        self.queues: dict[str, list[Stored]] = defaultdict(list)
        self.commands: list[Stored] = []
        self.inbox_count = 0
        self.schedules: dict[str, tuple[int, Stored]] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.links: list[Link] = []
        self.inbox = Consumer(self, "CALLBOARD_INBOX", "inbox", self.commands)
        self.consumers["CALLBOARD_INBOX", "inbox"] = self.inbox

    # what links send

    def take(self, link: Link, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        """Take in one message of a client, and answer it."""
        if self.down or not link.open:
            return
        if ".evt." in subject and headers:
            self._append(link, subject, body, headers, reply)
        elif subject.startswith("$JS.ACK."):
            self._ack(link, subject, body)
        elif subject.startswith("$JS.API."):
            self._api(link, subject[8:], body, reply)
        elif ".cmd." in subject or ".tmr." in subject:
            self._put(link, subject, body, headers or NO_HEADERS, reply)
        else:
            self._core(link, subject, body, headers or NO_HEADERS, reply)

    def _append(self, link: Link, subject: str, body: bytes, headers: Mapping[str, str], reply: str) -> None:
        fence = headers.get(EXPECTED_SUBJECT, "")[:-1]
        before = self.scopes.get(fence)
        last = before[-1].seq if before else 0
        if EXPECTED in headers and int(headers[EXPECTED]) != last:
            self._refuse(link, reply, 10071, f"wrong last sequence: {last}")
        elif self.weather.in_flight and self.world.random.random() < self.weather.in_flight:
            self._refuse(link, reply, 10164, "wrong last sequence")
        elif self.used >= 1.0:
            self._refuse(link, reply, 10077, "maximum bytes exceeded")
        else:
            seq = self.add(subject, body, headers)
            if self.moment is not None:
                self.moment("append", link.loop.name)
            if self.weather.in_flight and self.world.random.random() < self.weather.in_flight:
                return  # the leader stepped down as it had stored it, and nobody answers
            link.send(reply, Msg(reply, NO_HEADERS, b'{"stream":"CALLBOARD","seq":%d}' % seq))

    def _refuse(self, link: Link, reply: str, code: int, words: str) -> None:
        error = {"error": {"code": 400, "err_code": code, "description": words}}
        link.send(reply, Msg(reply, NO_HEADERS, msgspec.json.encode(error)))

    def add(self, subject: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Store a fact and hand it to whoever waits for it."""
        seq = len(self.log) + 1
        kept = {name: value for name, value in headers.items() if name not in (EXPECTED, EXPECTED_SUBJECT)}
        kept[SEQUENCE], kept[SUBJECT] = str(seq), subject
        stored = Stored(seq, subject, kept, body, self.world.now)
        self.log.append(stored)
        tokens = subject.split(".")
        run = ".".join(tokens[:4])
        for prefix in (f"{run}.", f"{run}.{tokens[4]}.", f"{run}.{tokens[4]}.{tokens[5]}."):
            self.scopes[prefix].append(stored)
        to = tokens[8]
        if to != "-":
            self.queues[to].append(stored)
        self.stored(stored)
        consumer = self.consumers.get(("CALLBOARD", to))
        if consumer is not None:
            consumer.pump()
        return seq

    def put(self, subject: str, body: bytes) -> None:
        """Take in a command from anybody."""
        self.inbox_count += 1
        self.commands.append(Stored(self.inbox_count, subject, {}, body, self.world.now))
        self.inbox.pump()

    def _put(self, link: Link, subject: str, body: bytes, headers: Mapping[str, str], reply: str) -> None:
        self.inbox_count += 1
        kept = {name: value for name, value in headers.items() if name not in (SCHEDULE, TARGET)}
        stored = Stored(self.inbox_count, subject, kept, body, self.world.now)
        if SCHEDULE in headers:
            due = (from_rfc3339(headers[SCHEDULE].removeprefix("@at ")) - BEGAN_MS) / 1000
            stored.subject = headers[TARGET]
            self.schedules[subject] = (stored.seq, stored)
            late = self.world.random.random() * self.weather.timer_seconds
            self.world.at(max(due, self.world.now) + late, self._fire, subject, stored.seq)
        else:
            self.commands.append(stored)
            self.inbox.pump()
        link.send(reply, Msg(reply, NO_HEADERS, b'{"stream":"CALLBOARD_INBOX","seq":%d}' % stored.seq))

    def _fire(self, subject: str, seq: int) -> None:
        kept = self.schedules.get(subject)
        if kept is None or kept[0] != seq:
            return
        if self.down:
            self.world.after(1.0, self._fire, subject, seq)
            return
        if self.world.random.random() >= self.weather.timer_twice:
            del self.schedules[subject]
        else:
            self.world.after(self.world.random.random() * 5, self._fire, subject, seq)
        self.inbox_count += 1
        fired = Stored(self.inbox_count, kept[1].subject, kept[1].headers, kept[1].body, self.world.now)
        self.commands.append(fired)
        self.inbox.pump()

    def _ack(self, link: Link, subject: str, body: bytes) -> None:
        _, _, stream, name, _, seq, _ = subject.split(".", 6)
        consumer = self.consumers.get((stream, name))
        if consumer is None:
            return
        if not body:
            self.acked(link, consumer, int(seq))
            consumer.ack(int(seq))
            if self.moment is not None:
                self.moment("ack", link.loop.name)
        elif body.startswith(b"-NAK"):
            delay = _json.decode(body[5:])["delay"] / SECOND if len(body) > 5 else 0.0
            consumer.nak(int(seq), delay)
        elif body == b"+WPI":
            consumer.progress(int(seq))
            if self.moment is not None:
                self.moment("beat", link.loop.name)

    # the API

    def _api(self, link: Link, verb: str, body: bytes, reply: str) -> None:
        request: dict[str, Any] = _json.decode(body) if body else {}
        if verb.startswith("DIRECT.GET."):
            if "last_by_subj" in request:
                self._direct_last(link, request["last_by_subj"], reply)
            else:
                self._direct_batch(link, request, reply)
        elif verb.startswith("STREAM.MSG.GET."):
            found = self.scope(request["last_by_subj"])
            if found:
                answer = b'{"message":{"seq":%d}}' % found[-1].seq
                link.send(reply, Msg(reply, NO_HEADERS, answer))
            else:
                self._refuse(link, reply, 10037, "no message found")
        elif verb.startswith("CONSUMER.MSG.NEXT."):
            _, _, _, stream, name = verb.split(".")
            self._next(link, (stream, name), request, reply)
        else:
            self._consumers(link, verb, request, reply)

    def _next(self, link: Link, name: tuple[str, str], request: dict[str, Any], reply: str) -> None:
        consumer = self.consumers.get(name)
        if consumer is None:
            link.send(reply, Msg(reply, {STATUS: "503"}, b""))
        else:
            consumer.ask(link, reply, batch=request["batch"], expires=request["expires"] / SECOND)

    def _consumers(self, link: Link, verb: str, request: dict[str, Any], reply: str) -> None:
        works = [one for (stream, _), one in self.consumers.items() if stream == "CALLBOARD"]
        if verb.startswith("CONSUMER.CREATE."):
            self._create(request["stream_name"], request["config"])
            answer: Any = {"config": request["config"]}
        elif verb.startswith("CONSUMER.NAMES."):
            answer = {"total": len(works), "consumers": [one.name for one in works][request["offset"] :]}
        elif verb.startswith("CONSUMER.LIST."):
            listed = [{"name": one.name, "ack_floor": {"stream_seq": one.floor()}} for one in works]
            answer = {"total": len(works), "consumers": listed[request["offset"] :]}
        elif verb.startswith("STREAM.INFO."):
            found = self.scope(request["subjects_filter"]) if "subjects_filter" in request else []
            subjects = dict.fromkeys([stored.subject for stored in found], 1)
            full = {"max_msgs": 1000} if self.used else {}
            state = {"last_seq": len(self.log), "messages": int(self.used * 1000), "subjects": subjects}
            answer = {"config": full, "state": state, "total": len(subjects)}
        elif verb.startswith("STREAM.PURGE."):
            self.schedules.pop(request["filter"], None)
            answer = {"success": True}
        else:
            raise NotImplementedError(verb)
        link.send(reply, Msg(reply, NO_HEADERS, msgspec.json.encode(answer)))

    def _create(self, stream: str, config: dict[str, Any]) -> None:
        name: str = config["name"]
        if (stream, name) in self.consumers:
            return
        consumer = Consumer(self, stream, name, self.queues[name])
        consumer.ack_wait = config["ack_wait"] / SECOND
        consumer.begin(config.get("opt_start_seq", 0))
        self.consumers[stream, name] = consumer
        advisory = f"$JS.EVENT.ADVISORY.CONSUMER.CREATED.{stream}.{name}"
        self._publish(advisory, Msg(advisory, NO_HEADERS, b"{}"))

    def scope(self, scope: str) -> list[Stored]:
        """Return the facts of a filter."""
        prefix = scope[:-1]
        if "*" not in prefix:
            if prefix.count(".") in INDEXED:
                return self.scopes.get(prefix, [])
            return [stored for stored in self.log if stored.subject.startswith(prefix)]
        pattern = tuple(scope.split("."))
        return [stored for stored in self.log if matches(pattern, tuple(stored.subject.split(".")))]

    def _seen(self, found: list[Stored]) -> int:
        """Return how many of `found` the replica that answers has."""
        count = len(found)
        if not self.weather.replica_seconds:
            return count
        horizon = self.world.now - self.world.random.random() ** 3 * self.weather.replica_seconds
        while count and found[count - 1].at > horizon:
            count -= 1
        return count

    def _direct_last(self, link: Link, scope: str, reply: str) -> None:
        found = self.scope(scope)
        count = self._seen(found)
        if not count:
            link.send(reply, Msg(reply, {STATUS: "404"}, b""))
        else:
            link.send(reply, Msg(reply, found[count - 1].headers, found[count - 1].body))

    def _direct_batch(self, link: Link, request: dict[str, Any], reply: str) -> None:
        found = self.scope(request["next_by_subj"])
        count = self._seen(found)
        start: int = request["seq"]
        first = count
        while first and found[first - 1].seq >= start:
            first -= 1
        batch = found[first : min(count, first + request["batch"])]
        if not batch:
            link.send(reply, Msg(reply, {STATUS: "404"}, b""))
            return
        replies = [
            Msg(reply, {**stored.headers, PENDING: str(count - first - place - 1)}, stored.body)
            for place, stored in enumerate(batch)
        ]
        link.send(reply, *replies)

    # plain subjects

    def _core(self, link: Link, subject: str, body: bytes, headers: Mapping[str, str], reply: str) -> None:
        told = self._publish(subject, Msg(subject, headers, body, reply))
        if not told and reply:
            link.send(reply, Msg(reply, {STATUS: "503"}, b""))

    def _publish(self, subject: str, msg: Msg) -> int:
        told = 0
        for link in self.links:
            told += link.send(subject, msg)
        return told

    # faults

    def lose_leader(self) -> None:
        """Another node leads: open pulls are forgotten, and what was delivered and not acked is delivered again."""
        for consumer in self.consumers.values():
            consumer.lose_leader()

    def lose_consumer(self, name: str) -> None:
        """A consumer is gone, with all it knew."""
        consumer = self.consumers.pop(("CALLBOARD", name), None)
        if consumer is not None:
            consumer.tell_deleted()

    def rob(self, chosen: Callable[[Stored], bool]) -> str:
        """Ack a message of a work queue that another still works on, as a process does whose clock stood; return whose it was."""
        found = [
            (one, seq)
            for (stream, _), one in self.consumers.items()
            for seq, entry in one.open.items()
            if stream == "CALLBOARD" and chosen(entry.stored)
        ]
        if not found:
            return ""
        consumer, seq = found[int(self.world.random.random() * len(found))]
        holder = consumer.open[seq].holder
        consumer.ack(seq)
        return holder

    def pump(self) -> None:
        """Hand out what waits, as after an outage."""
        for consumer in self.consumers.values():
            consumer.pump()


def deleted(reply: str) -> Msg:
    return Msg(reply, {STATUS: "409", DESCRIPTION: "Consumer Deleted"}, b"")
