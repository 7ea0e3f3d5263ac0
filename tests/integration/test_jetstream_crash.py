"""nats-server killed and started again under everything: nothing that was acknowledged is lost, nothing is repeated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from deploy.nats_server import NatsServer
from events.jetstream.api import CALLBOARD
from events.jetstream.connection import Bus, connect
from events.jetstream.log import JetStreamLog
from events.jetstream.queues import Delivery, Pull, Queues
from events.jetstream.streams import ensure_streams
from events.log import Log
from events.subjects import Address, workspace_scope
from tests.contract.log_contract import entry, grow, seqs_of, take

ACTORS = 20
EACH = 60
ALL = workspace_scope("acme")


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="crash") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def log(bus: Bus) -> JetStreamLog:
    return JetStreamLog(bus)


class Crashes:
    """Kills the server whenever another part of `total` appends is stored, and starts it again."""

    def __init__(self, server: NatsServer, *, total: int, times: int) -> None:
        self._server = server
        self._at = [total * each // (times + 1) for each in range(1, times + 1)]
        self._stored = 0
        self._due = asyncio.Event()
        self.done = 0

    def count(self) -> None:
        self._stored += 1
        if self.done < len(self._at) and self._stored >= self._at[self.done]:
            self._due.set()

    async def run(self) -> None:
        while self.done < len(self._at):
            await self._due.wait()
            self._server.kill()
            await self._server.start()
            self.done += 1
            self._due.clear()


async def fill(log: Log, actor: int, crashes: Crashes) -> list[int]:
    address = Address("acme", f"run_{actor}")
    seqs = [0]
    for version in range(1, EACH + 1):
        seqs.append(await log.append(entry(address, version, to="run"), expected=seqs[-1]))
        crashes.count()
    return seqs[1:]


async def fill_all(log: Log, crashes: Crashes) -> list[list[int]]:
    async with asyncio.TaskGroup() as group:
        group.create_task(crashes.run())
        actors = [group.create_task(fill(log, actor, crashes)) for actor in range(ACTORS)]
    return [actor.result() for actor in actors]


@pytest.fixture
def crashes(nats_server: NatsServer) -> Crashes:
    return Crashes(nats_server, total=ACTORS * EACH, times=3)


async def test_every_acknowledged_append_is_there_once_and_in_its_place(log: JetStreamLog, crashes: Crashes) -> None:
    seqs = await fill_all(log, crashes)
    assert crashes.done == 3
    for actor, told in enumerate(seqs):
        records = await log.load(Address("acme", f"run_{actor}").scope)
        assert seqs_of(records) == told
        assert [record.version for record in records] == list(range(1, EACH + 1))
    assert await log.end() == ACTORS * EACH


async def test_a_tail_has_no_gap_and_no_repeat(log: JetStreamLog, crashes: Crashes) -> None:
    tail = log.follow(ALL, after=0)
    following = asyncio.create_task(take(tail, ACTORS * EACH))
    await fill_all(log, crashes)
    assert seqs_of(await following) == list(range(1, ACTORS * EACH + 1))


async def test_loads_are_whole_or_wait(log: JetStreamLog, crashes: Crashes) -> None:
    seqs = await grow(log, Address("acme", "long"), 700)
    loads = 0

    async def load_on() -> None:
        nonlocal loads
        while crashes.done < 3:
            assert seqs_of(await log.load(Address("acme", "long").scope)) == seqs
            loads += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(load_on())
        await fill_all(log, crashes)
    assert loads >= 3


async def test_every_notice_is_worked_on_and_its_queue_is_empty_at_the_end(
    bus: Bus, log: JetStreamLog, crashes: Crashes
) -> None:
    queues = Queues(bus, ack_wait_seconds=1.0)
    await queues.ensure("run")
    total = ACTORS * EACH
    worked: Counter[int] = Counter()
    finished = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        in_hand: set[int] = set()

        def deliver(delivery: Delivery) -> None:
            in_hand.add(delivery.seq)
            group.create_task(work(delivery))

        async def work(delivery: Delivery) -> None:
            await delivery.ack()
            worked[delivery.seq] += 1
            in_hand.discard(delivery.seq)
            pull.poke()
            if len(worked) == total:
                finished.set()

        async with Pull(bus, CALLBOARD, "run", deliver=deliver, free=lambda: 50 - len(in_hand)) as pull:
            await fill_all(log, crashes)
            await finished.wait()

    assert set(worked) == set(range(1, total + 1))
