"""A tail lives on whatever happens to its consumer, holds little while its reader is slow, and stops at what is unknown."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deploy.nats_server import NatsServer
from events.codec import UnknownFact
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.connection import Bus, connect
from events.jetstream.follow import BATCH
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from events.log import LogUnavailable
from events.subjects import Address, workspace_scope
from tests.contract.log_contract import RUN, entry, grow, seqs_of, take
from tests.integration.tcp_proxy import Swallow, TcpProxy

ALL = workspace_scope("acme")


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="follow") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def log(bus: Bus) -> JetStreamLog:
    return JetStreamLog(bus)


async def consumers(bus: Bus) -> list[str]:
    reply = await bus.request(f"$JS.API.CONSUMER.NAMES.{CALLBOARD}", b"")
    return msgspec.json.decode(reply.body)["consumers"]


async def consumer(bus: Bus) -> dict[str, Any]:
    """The one consumer there is."""
    (name,) = await consumers(bus)
    return msgspec.json.decode((await bus.request(f"$JS.API.CONSUMER.INFO.{CALLBOARD}.{name}", b"")).body)


async def fill(log: JetStreamLog, count: int) -> None:
    await asyncio.gather(*(grow(log, Address("acme", f"run_{n}"), 50) for n in range(count // 50)))


async def test_a_consumer_taken_away_is_made_again_behind_the_last_seen(bus: Bus, log: JetStreamLog) -> None:
    tail = log.follow(ALL, after=0)
    await fill(log, 100)
    assert seqs_of(await take(tail, 100)) == list(range(1, 101))
    (name,) = await consumers(bus)
    await ask(bus, f"CONSUMER.DELETE.{CALLBOARD}.{name}", None, answer=Answer)
    waiting = asyncio.create_task(take(tail, 1))
    seq = await log.append(entry(RUN.at("s1"), 1), expected=0)
    assert seqs_of(await waiting) == [seq]


async def test_messages_lost_on_the_way_are_fetched_again(nats_server: NatsServer, log: JetStreamLog) -> None:
    async with TcpProxy(nats_server.port) as proxy, connect(proxy.url, name="lossy") as lossy:
        tail = JetStreamLog(lossy).follow(ALL, after=0)
        waiting = asyncio.create_task(take(tail, 3))
        first = await log.append(entry(RUN, 1), expected=0)
        while not waiting.done():
            proxy.to_client = swallow = Swallow(b"run.started")
            second = await log.append(entry(RUN, 2), expected=first)
            await swallow.swallowed.wait()
            third = await log.append(entry(RUN, 3), expected=second)
            assert seqs_of(await waiting) == [first, second, third]


async def test_while_its_reader_is_slow_little_is_held(bus: Bus, log: JetStreamLog) -> None:
    await fill(log, 3000)
    tail = log.follow(ALL, after=0)
    got = await anext(tail)
    await bus.flush()
    assert (await consumer(bus))["delivered"]["consumer_seq"] <= len(got) + 2 * BATCH
    assert seqs_of(got + await take(tail, 3000 - len(got))) == list(range(1, 3001))


async def test_its_consumer_is_gone_when_its_reader_is(bus: Bus, log: JetStreamLog) -> None:
    await grow(log, RUN, 1)
    tail = log.follow(ALL, after=0)
    await take(tail, 1)
    assert len(await consumers(bus)) == 1
    await tail.aclose()  # pyright: ignore[reportAttributeAccessIssue] - an async generator
    await bus.flush()
    assert await consumers(bus) == []


async def test_a_tail_and_a_load_stop_at_a_fact_of_a_newer_engine_and_lose_nothing_before_it(
    bus: Bus, log: JetStreamLog
) -> None:
    known = await grow(log, RUN, 3)
    await bus.request(
        "cb.acme.evt.run_1.-.-.run.dreamt.-", b'{"type":"run.dreamt.v1"}', headers={"ce-type": "run.dreamt.v1"}
    )
    tail = log.follow(ALL, after=0)
    assert seqs_of(await take(tail, 3)) == known
    with pytest.raises(UnknownFact, match=r"run\.dreamt\.v1"):
        await anext(tail)
    with pytest.raises(UnknownFact):
        await log.load(RUN.scope)
    assert seqs_of(await log.page(RUN.scope, limit=3)) == known


async def test_a_tail_ends_with_its_connection(nats_url: str, log: JetStreamLog) -> None:
    async with connect(nats_url, name="short") as short:
        waiting = asyncio.ensure_future(anext(JetStreamLog(short).follow(ALL, after=0)))
        await short.flush()
    with pytest.raises(LogUnavailable):
        await waiting
