"""Work queues: made when first needed, found by who works, pulled no further than there are free slots."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.nats_server import NatsServer
from events.ids import InvalidToken
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.connection import Bus, connect
from events.jetstream.log import JetStreamLog
from events.jetstream.pull import EXPIRES_SECONDS, SILENCE_FACTOR
from events.jetstream.queues import Delivery, Pull, Queues
from events.jetstream.streams import ensure_streams
from events.subjects import Address
from tests.contract.log_contract import entry, grow
from tests.integration.tcp_proxy import Swallow, TcpProxy

RUN = Address("acme", "run_1")


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="queues") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def log(bus: Bus) -> JetStreamLog:
    return JetStreamLog(bus)


class Hands:
    """So many slots; what was delivered waits in `inbox` until it is taken out."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        self.held = 0
        self.most = 0

    def deliver(self, delivery: Delivery) -> None:
        self.held += 1
        self.most = max(self.most, self.held)
        self.inbox.put_nowait(delivery)

    def free(self) -> int:
        return self.slots - self.held

    def pull(self, bus: Bus, queue: str) -> Pull:
        return Pull(bus, CALLBOARD, queue, deliver=self.deliver, free=self.free)


async def test_a_queue_is_made_once_and_named_as_its_to(bus: Bus) -> None:
    queues = Queues(bus)
    for to in ("run", "start-coder", "agent-coder", "tool-local", "run"):
        await queues.ensure(to)
    await Queues(bus).ensure("run")
    assert sorted(await queues.names()) == ["agent-coder", "run", "start-coder", "tool-local"]


@pytest.mark.parametrize("to", ["*", "a.b", "", "a b", ">"])
async def test_a_to_that_reaches_into_other_queues_is_refused(bus: Bus, to: str) -> None:
    with pytest.raises(InvalidToken):
        await Queues(bus).ensure(to)


async def test_a_queue_taken_away_is_made_again_after_it_was_missed(bus: Bus) -> None:
    queues = Queues(bus)
    await queues.ensure("run")
    await ask(bus, f"CONSUMER.DELETE.{CALLBOARD}.run", None, answer=Answer)
    assert await queues.names() == []
    await queues.ensure("run")
    assert await queues.names() == ["run"]


async def test_a_queue_keeps_where_it_began_and_takes_new_settings(bus: Bus, log: JetStreamLog) -> None:
    await grow(log, RUN, 5, to="run")
    await Queues(bus).ensure("run", start=4)
    await Queues(bus, ack_wait_seconds=1.0).ensure("run")
    assert await Queues(bus).floors() == {"run": 3}


async def test_only_what_is_addressed_to_a_queue_comes_in_and_in_order(bus: Bus, log: JetStreamLog) -> None:
    first = await grow(log, RUN, 3, to="run")
    await grow(log, RUN.at("s1"), 3, to="agent-coder")
    await Queues(bus).ensure("run", start=1)
    later = await grow(log, Address("other", "run_2"), 2, to="run")
    hands = Hands(100)
    async with hands.pull(bus, "run"):
        got = [await hands.inbox.get() for _ in range(5)]
    assert [delivery.seq for delivery in got] == first + later
    assert [delivery.delivered for delivery in got] == [1] * 5
    assert got[0].subject == "cb.acme.evt.run_1.-.-.run.started.run"
    assert got[0].headers["ce-type"] == "run.started.v1"
    assert got[0].body == b'{"type":"run.started.v1"}'
    assert got[0].stream == CALLBOARD


async def test_no_more_is_pulled_than_there_are_free_slots(bus: Bus, log: JetStreamLog) -> None:
    await grow(log, RUN, 40, to="run")
    queues = Queues(bus)
    await queues.ensure("run", start=1)
    hands = Hands(7)
    async with hands.pull(bus, "run") as pull:
        for _ in range(40):
            delivery = await hands.inbox.get()
            await delivery.ack_sync()
            hands.held -= 1
            pull.poke()
    assert hands.most <= 7
    assert await queues.floors() == {"run": 40}


async def test_with_all_slots_taken_nothing_comes_until_one_is_free(bus: Bus, log: JetStreamLog) -> None:
    await grow(log, RUN, 3, to="run")
    await Queues(bus).ensure("run", start=1)
    hands = Hands(1)
    async with hands.pull(bus, "run") as pull:
        first = await hands.inbox.get()
        await bus.flush()
        assert hands.inbox.empty()
        hands.held -= 1
        pull.poke()
        assert (await hands.inbox.get()).seq == first.seq + 1


async def test_work_that_comes_later_is_delivered_at_once(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus).ensure("run", start=1)
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        for version in range(1, 4):
            await log.append(entry(Address("acme", f"run_{version}"), 1, to="run"), expected=0)
            async with asyncio.timeout(2):
                assert (await hands.inbox.get()).seq == version


async def test_what_is_not_acked_comes_again_and_says_so(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus, ack_wait_seconds=0.3).ensure("run")
    await grow(log, RUN, 1, to="run")
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        first, second = await hands.inbox.get(), await hands.inbox.get()
    assert (first.delivered, second.delivered) == (1, 2)
    assert first.seq == second.seq
    assert first.reply != second.reply


async def test_progress_puts_the_next_delivery_off(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus, ack_wait_seconds=0.5).ensure("run")
    await grow(log, RUN, 1, to="run")
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        first = await hands.inbox.get()
        for _ in range(4):
            await asyncio.wait({asyncio.ensure_future(hands.inbox.get())}, timeout=0.25)
            await first.progress()
        assert hands.most == 1
        await first.ack_sync()
    assert await Queues(bus).floors() == {"run": 1}


async def test_a_nak_brings_it_again_after_its_delay(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus).ensure("run")
    await grow(log, RUN, 1, to="run")
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        first = await hands.inbox.get()
        await first.nak(0.3)
        second = await hands.inbox.get()
        assert second.received - first.received >= 0.25
        await second.nak()
        assert (await hands.inbox.get()).delivered == 3


async def test_two_workers_share_a_queue_and_none_gets_the_others_message(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus).ensure("run")
    one, two = Hands(5), Hands(5)
    async with one.pull(bus, "run"), two.pull(bus, "run"):
        await grow(log, RUN, 10, to="run")
        got = [await hands.inbox.get() for hands in (one, two) for _ in range(5)]
    assert sorted(delivery.seq for delivery in got) == list(range(1, 11))


async def test_a_stopped_pull_takes_no_more(bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus).ensure("run")
    hands = Hands(10)
    pull = hands.pull(bus, "run")
    await pull.start()
    await grow(log, RUN, 1, to="run")
    await (await hands.inbox.get()).ack_sync()
    await pull.stop()
    await grow(log, RUN.at("s"), 1, to="run")
    await bus.flush()
    assert hands.inbox.empty()


async def test_a_pull_from_a_queue_that_comes_to_be_later_begins_by_itself(bus: Bus, log: JetStreamLog) -> None:
    hands = Hands(10)
    async with hands.pull(bus, "run") as pull:
        while not pull.missing:
            await bus.flush()
        await Queues(bus).ensure("run")
        await grow(log, RUN, 1, to="run")
        assert (await hands.inbox.get()).seq == 1
        assert not pull.missing


async def test_a_pull_whose_request_is_lost_asks_again_also_if_it_was_poked_before_it_asked(
    nats_server: NatsServer, bus: Bus, log: JetStreamLog
) -> None:
    hands = Hands(10)
    port = int(nats_server.url.rpartition(":")[2])
    async with TcpProxy(port) as proxy, connect(proxy.url, name="lossy") as lossy, hands.pull(lossy, "run") as pull:
        while not pull.missing:
            await lossy.flush()
        lost = proxy.to_server = Swallow(b"MSG.NEXT")
        pull.poke()
        await asyncio.wait_for(lost.swallowed.wait(), 5)
        await Queues(bus).ensure("run")
        await grow(log, RUN, 1, to="run")
        assert (await asyncio.wait_for(hands.inbox.get(), SILENCE_FACTOR * EXPIRES_SECONDS + 5)).seq == 1


async def test_a_pull_goes_on_after_the_server_was_killed(nats_server: NatsServer, bus: Bus, log: JetStreamLog) -> None:
    await Queues(bus).ensure("run")
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        await grow(log, RUN, 1, to="run")
        await (await hands.inbox.get()).ack_sync()
        nats_server.kill()
        await nats_server.start()
        seq = await log.append(entry(RUN.at("s"), 1, to="run"), expected=0)
        async with asyncio.timeout(3):
            while (await hands.inbox.get()).seq != seq:
                pass


async def test_a_watch_tells_each_queue_once_those_there_and_those_to_come(nats_server: NatsServer, bus: Bus) -> None:
    queues = Queues(bus)
    await queues.ensure("run")
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(queues.watch(told.put_nowait))
    assert await told.get() == "run"
    tail = JetStreamLog(bus).follow("cb.*.evt.>", after=0)
    following = asyncio.ensure_future(anext(tail))
    async with asyncio.timeout(2):
        await queues.ensure("start-coder")
        assert await told.get() == "start-coder"
    nats_server.kill()
    await nats_server.start()
    await Queues(bus).ensure("agent-coder")
    async with asyncio.timeout(3):
        assert await told.get() == "agent-coder"
    assert told.empty()
    for task in (watching, following):
        task.cancel()
    await asyncio.gather(watching, following, return_exceptions=True)


async def test_many_queues_are_all_listed(bus: Bus) -> None:
    queues = Queues(bus)
    wanted = {f"agent-role{number}" for number in range(260)}
    await asyncio.gather(*(queues.ensure(to) for to in wanted))
    assert set(await queues.names()) == wanted
    assert set(await queues.floors()) == wanted


async def test_the_floor_is_where_all_is_acked(bus: Bus, log: JetStreamLog) -> None:
    queues = Queues(bus)
    await queues.ensure("run")
    await grow(log, RUN, 4, to="run")
    hands = Hands(10)
    async with hands.pull(bus, "run"):
        got = [await hands.inbox.get() for _ in range(4)]
        for delivery in (got[0], got[1], got[3]):
            await delivery.ack_sync()
        assert await queues.floors() == {"run": 2}
        await got[2].ack_sync()
        assert await queues.floors() == {"run": 4}
