"""An append whose answer is lost: it is found out what happened, and neither a loss nor a false conflict is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.nats_server import NatsServer
from events.jetstream.connection import connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import ensure_streams
from events.log import Conflict, LogUnavailable
from tests.contract.log_contract import RUN, entry, seqs_of
from tests.integration.tcp_proxy import Delay, Hold, Swallow, TcpProxy

STORED = b'"stream":"CALLBOARD"'
APPEND = b"HPUB cb.acme.evt."


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(nats_server.port) as proxy:
        yield proxy


@pytest.fixture
async def direct(nats_url: str) -> AsyncIterator[JetStreamLog]:
    """Another worker, on a line of its own."""
    async with connect(nats_url, name="direct") as bus:
        await ensure_streams(bus)
        yield JetStreamLog(bus)


@pytest.fixture
async def log(direct: JetStreamLog, proxy: TcpProxy) -> AsyncIterator[JetStreamLog]:
    """The worker whose line is tampered with."""
    async with connect(proxy.url, name="through the proxy") as bus:
        yield JetStreamLog(bus, request_seconds=0.4)


async def test_a_stored_fact_whose_answer_was_lost_is_a_success(log: JetStreamLog, proxy: TcpProxy) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_client = Swallow(STORED)
    second = await log.append(entry(RUN, 2), expected=first)
    assert seqs_of(await log.load(RUN.scope)) == [first, second]


async def test_a_stored_fact_is_a_success_also_when_the_line_was_cut(log: JetStreamLog, proxy: TcpProxy) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_client = swallow = Swallow(STORED)
    append = asyncio.create_task(log.append(entry(RUN, 2), expected=first))
    await swallow.swallowed.wait()
    proxy.cut()
    assert await append == first + 1
    assert len(await log.load(RUN.scope)) == 2


async def test_a_stored_fact_is_a_success_although_another_landed_behind_it(
    log: JetStreamLog, direct: JetStreamLog, proxy: TcpProxy
) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_client = swallow = Swallow(STORED)
    append = asyncio.create_task(log.append(entry(RUN, 2), expected=first))
    await swallow.swallowed.wait()
    behind = await direct.append(entry(RUN, 3, name="evt_behind"), expected=first + 1)
    proxy.cut()
    assert await append == first + 1
    assert seqs_of(await log.load(RUN.scope)) == [first, first + 1, behind]


async def test_a_fact_that_was_never_sent_while_another_was_stored_is_a_conflict(
    log: JetStreamLog, direct: JetStreamLog, proxy: TcpProxy
) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_server = swallow = Swallow(APPEND)
    append = asyncio.create_task(log.append(entry(RUN, 2, name="evt_mine"), expected=first))
    await swallow.swallowed.wait()
    other = await direct.append(entry(RUN, 2, name="evt_other"), expected=first)
    proxy.cut()
    with pytest.raises(Conflict) as conflict:
        await append
    assert conflict.value.last == other


async def test_a_conflict_whose_answer_was_lost_stays_a_conflict(
    log: JetStreamLog, direct: JetStreamLog, proxy: TcpProxy
) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    other = await direct.append(entry(RUN, 2, name="evt_other"), expected=first)
    proxy.to_client = Swallow(b"wrong last sequence")
    with pytest.raises(Conflict) as conflict:
        await log.append(entry(RUN, 2, name="evt_mine"), expected=first)
    assert conflict.value.last == other


async def test_a_fact_that_was_never_sent_is_sent_again_and_stored_once(log: JetStreamLog, proxy: TcpProxy) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_server = Swallow(APPEND)
    second = await log.append(entry(RUN, 2), expected=first)
    assert seqs_of(await log.load(RUN.scope)) == [first, second]


@pytest.mark.parametrize("before", [True, False], ids=["just before it", "just behind it"])
async def test_a_publish_that_lands_late_beside_its_repeat_is_stored_once(
    log: JetStreamLog, proxy: TcpProxy, before: bool
) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_server = Delay(APPEND, before=before)
    second = await log.append(entry(RUN, 2), expected=first)
    third = await log.append(entry(RUN, 3), expected=second)
    assert seqs_of(await log.load(RUN.scope)) == [first, second, third]


async def test_a_late_publish_cannot_land_over_anothers_fact(
    log: JetStreamLog, direct: JetStreamLog, proxy: TcpProxy
) -> None:
    first = await log.append(entry(RUN, 1), expected=0)
    proxy.to_server = hold = Hold(APPEND)
    append = asyncio.create_task(log.append(entry(RUN, 2, name="evt_mine"), expected=first))
    await hold.held.wait()
    other = await direct.append(entry(RUN, 2, name="evt_other"), expected=first)
    hold.release.set()
    with pytest.raises(Conflict):
        await append
    assert seqs_of(await direct.load(RUN.scope)) == [first, other]


async def test_without_a_server_an_append_gives_up_within_its_limit_and_says_so(
    nats_server: NatsServer, direct: JetStreamLog
) -> None:
    async with connect(nats_server.url, name="patient") as bus:
        log = JetStreamLog(bus, append_seconds_max=1.0, request_seconds=0.4)
        nats_server.kill()
        begun = asyncio.get_running_loop().time()
        with pytest.raises(LogUnavailable):
            await log.append(entry(RUN, 1), expected=0)
        assert asyncio.get_running_loop().time() - begun < 3
        await nats_server.start()
        assert await log.append(entry(RUN, 1), expected=0) == 1


async def test_lost_replies_of_a_load_are_asked_for_again(log: JetStreamLog, proxy: TcpProxy) -> None:
    seqs: list[int] = []
    for version in range(1, 21):
        seqs.append(await log.append(entry(RUN, version), expected=seqs[-1] if seqs else 0))
    proxy.to_client = swallow = Swallow(b"Nats-Num-Pending: 5")
    load = asyncio.create_task(log.load(RUN.scope))
    await swallow.swallowed.wait()
    proxy.cut()
    assert seqs_of(await load) == seqs
