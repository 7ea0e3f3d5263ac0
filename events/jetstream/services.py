"""Operations as a NATS micro service: `nats micro ls`, `info` and `stats` show it, and each request is answered in a task
of its own.

Protocol: NATS ADR-32. nats-py's own form takes an endpoint's requests strictly one after another and counts no time or
error of work handed on, so these few subjects are spoken here.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from events.clock import Clock, SystemClock
from events.envelope import rfc3339
from events.jetstream.connection import Bus, Subscription
from events.jetstream.wire import Msg, Oversized
from events.log import LogUnavailable

QUEUE_GROUP: Final = "q"
REQUESTS_MAX: Final = 256
LEAVE_SECONDS_MAX: Final = 10.0
ERROR: Final = "Nats-Service-Error"
ERROR_CODE: Final = "Nats-Service-Error-Code"

Answer = Callable[[Msg], Awaitable[tuple[bytes, Mapping[str, str]]]]

log = structlog.get_logger(__name__)


class ServiceError(Exception):
    """The answer is an error: a code as in HTTP, one line of words, and perhaps a body."""

    def __init__(self, code: int, description: str, body: bytes = b"") -> None:
        self.code = code
        self.description = description
        self.body = body
        super().__init__(f"{code}: {description}")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: what it is about, what it does, the subject it is asked on (wildcards allowed), and its answer."""

    noun: str
    verb: str
    subject: str
    answer: Answer
    metadata: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        return f"{self.noun}-{self.verb}"


class _Served:
    """An endpoint and its counts; times in nanoseconds."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.requests = 0
        self.errors = 0
        self.nanoseconds = 0
        self.last_error = ""

    def info(self) -> dict[str, Any]:
        endpoint = self.endpoint
        return {
            "name": endpoint.name,
            "subject": endpoint.subject,
            "queue_group": QUEUE_GROUP,
            "metadata": dict(endpoint.metadata),
        }

    def stats(self) -> dict[str, Any]:
        return {
            "name": self.endpoint.name,
            "subject": self.endpoint.subject,
            "queue_group": QUEUE_GROUP,
            "num_requests": self.requests,
            "num_errors": self.errors,
            "last_error": self.last_error,
            "processing_time": self.nanoseconds,
            "average_processing_time": self.nanoseconds // max(self.requests, 1),
            "data": None,
        }


class _Service:
    """All endpoints of this process under one name and id."""

    def __init__(self, bus: Bus, *, identity: Mapping[str, Any], started: str, requests_max: int) -> None:
        self._bus = bus
        self._identity = dict(identity)
        self._started = started
        self._requests_max = requests_max
        self._served: list[_Served] = []
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, endpoints: Sequence[Endpoint]) -> None:
        for verb, tell in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for tail in ("", f".{self._identity['name']}", f".{self._identity['name']}.{self._identity['id']}"):
                await self._listen(f"$SRV.{verb}{tail}", _told(self._bus, tell), queue="")
        for endpoint in endpoints:
            served = _Served(endpoint)
            self._served.append(served)
            await self._listen(endpoint.subject, self._taker(served), queue=QUEUE_GROUP)
        await self._bus.flush()

    async def close(self) -> None:
        """Take no more requests, and give those in hand a while to be answered."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEAVE_SECONDS_MAX)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _listen(self, subject: str, callback: Callable[[Msg], Awaitable[None] | None], *, queue: str) -> None:
        self._subscriptions.append(await self._bus.subscribe(subject, callback, queue=queue))

    def _taker(self, served: _Served) -> Callable[[Msg], None]:
        def take(msg: Msg) -> None:
            served.requests += 1
            busy = len(self._tasks) >= self._requests_max
            task = asyncio.create_task(self._respond(served, msg, busy=busy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return take

    async def _respond(self, served: _Served, msg: Msg, *, busy: bool) -> None:
        begun = time.perf_counter_ns()
        try:
            if busy:
                raise ServiceError(503, f"{self._requests_max} requests are being answered; try again later")
            body, headers = await served.endpoint.answer(msg)
            await self._reply(msg, body, headers)
        except ServiceError as error:
            await self._refuse(served, msg, error)
        except Oversized as error:
            await self._refuse(served, msg, ServiceError(413, str(error)))
        except LogUnavailable as error:
            await self._refuse(served, msg, ServiceError(503, str(error)))
        except Exception:
            log.exception("service_request_failed", endpoint=served.endpoint.name)
            await self._refuse(served, msg, ServiceError(500, "internal error"))
        finally:
            served.nanoseconds += time.perf_counter_ns() - begun

    async def _refuse(self, served: _Served, msg: Msg, error: ServiceError) -> None:
        served.errors += 1
        served.last_error = f"{error.code}:{error.description}"
        await self._reply(msg, error.body, {ERROR_CODE: str(error.code), ERROR: error.description})

    async def _reply(self, msg: Msg, body: bytes, headers: Mapping[str, str]) -> None:
        if msg.reply:
            with contextlib.suppress(LogUnavailable):  # who asked will ask again
                await self._bus.publish(msg.reply, body, headers=headers)

    def _ping(self) -> dict[str, Any]:
        identity = {key: value for key, value in self._identity.items() if key != "description"}
        return {"type": "io.nats.micro.v1.ping_response", **identity}

    def _info(self) -> dict[str, Any]:
        endpoints = [served.info() for served in self._served]
        return {"type": "io.nats.micro.v1.info_response", **self._identity, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = [served.stats() for served in self._served]
        told = {**self._ping(), "type": "io.nats.micro.v1.stats_response"}
        return {**told, "started": self._started, "endpoints": endpoints}


@contextlib.asynccontextmanager
async def serve(
    bus: Bus,
    *,
    name: str = "callboard",
    version: str,
    endpoints: Sequence[Endpoint],
    description: str = "",
    requests_max: int = REQUESTS_MAX,
    clock: Clock | None = None,
) -> AsyncGenerator[None, None]:
    """Answer the endpoints' requests until the block ends; at most `requests_max` at once, the rest get a 503.

    Processes that serve the same share the requests. `version` is semantic. Raises LogUnavailable.
    """
    identity: dict[str, Any] = {
        "name": name,
        "id": bus.new_inbox().rpartition(".")[2],
        "version": version,
        "metadata": {},
        "description": description,
    }
    started = rfc3339((clock or SystemClock()).now_ms())
    service = _Service(bus, identity=identity, started=started, requests_max=requests_max)
    try:
        await service.open(endpoints)
        yield
    finally:
        await service.close()


def _told(bus: Bus, tell: Callable[[], dict[str, Any]]) -> Callable[[Msg], Awaitable[None]]:
    async def answer(msg: Msg) -> None:
        if msg.reply:
            await bus.publish(msg.reply, msgspec.json.encode(tell()))

    return answer
