"""The connection: it gets in or says why not, comes back by itself, and is never lost to something oversized."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.nats_server import NatsServer
from deploy.ports import free_port
from events.jetstream.connection import Bus, Msg, NatsUnreachable, NoResponders, Oversized, connect
from events.log import LogUnavailable
from tests.integration.fake_nats import FakeServer


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="test") as bus:
        yield bus


async def echo(bus: Bus, msg: Msg) -> None:
    await bus.publish(msg.reply, msg.body, headers=msg.headers)


async def test_a_request_is_answered_with_headers_and_body(bus: Bus) -> None:
    await bus.subscribe("echo", lambda msg: asyncio.ensure_future(echo(bus, msg)))
    reply = await bus.request("echo", b"hello", headers={"Key": "värld"})
    assert (reply.body, reply.headers["Key"]) == (b"hello", "värld")


async def test_many_requests_at_once_get_each_their_own_answer(bus: Bus) -> None:
    async def answer(msg: Msg) -> None:
        await echo(bus, msg)

    await bus.subscribe("echo", answer)
    bodies = [str(number).encode() for number in range(500)]
    assert [reply.body for reply in await asyncio.gather(*(bus.request("echo", body) for body in bodies))] == bodies


async def test_several_replies_are_gathered_up_to_the_last(bus: Bus) -> None:
    async def count(msg: Msg) -> None:
        for number in range(5):
            await bus.publish(msg.reply, str(number).encode())

    await bus.subscribe("count", count)
    replies = await bus.request_many("count", b"", is_last=lambda msg: msg.body == b"3")
    assert [reply.body for reply in replies] == [b"0", b"1", b"2", b"3"]


async def test_nobody_listening_is_told_at_once(bus: Bus) -> None:
    with pytest.raises(NoResponders) as alone:
        await bus.request("nobody.home", b"", seconds=30)
    assert alone.value.subject == "nobody.home"


async def test_silence_is_told_when_the_time_is_over(bus: Bus) -> None:
    await bus.subscribe("silent", lambda msg: None)
    with pytest.raises(LogUnavailable, match="no answer"):
        await bus.request("silent", b"", seconds=0.1)


async def test_a_callback_that_fails_does_not_deafen_the_connection(bus: Bus) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def fail_first(msg: Msg) -> None:
        if msg.body == b"1":
            raise RuntimeError("callback")
        heard.put_nowait(msg.body)

    await bus.subscribe("a", fail_first)
    await bus.publish("a", b"1")
    await bus.publish("a", b"2")
    assert await heard.get() == b"2"


async def test_a_coroutine_callback_takes_one_message_after_another(bus: Bus) -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    async def slow(msg: Msg) -> None:
        await bus.flush()
        heard.append(msg.body)
        if len(heard) == 20:
            done.set()

    await bus.subscribe("a", slow)
    for number in range(20):
        await bus.publish("a", str(number).encode())
    await done.wait()
    assert heard == [str(number).encode() for number in range(20)]


async def test_of_a_queue_group_one_gets_the_message(bus: Bus) -> None:
    heard: list[str] = []
    for name in ("one", "two", "three"):
        await bus.subscribe("work", lambda msg, name=name: heard.append(name), queue="q")
    for _ in range(10):
        await bus.publish("work", b"")
    await bus.flush()
    assert len(heard) == 10


async def test_after_unsubscribe_nothing_more_comes(bus: Bus) -> None:
    heard: list[bytes] = []
    subscription = await bus.subscribe("a", lambda msg: heard.append(msg.body))
    await bus.publish("a", b"1")
    await bus.flush()
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    await bus.publish("a", b"2")
    await bus.flush()
    assert heard == [b"1"]


@pytest.mark.parametrize(
    ("subject", "body", "headers"),
    [
        ("a" * 5000, b"", None),
        ("a", bytes(2 << 20), None),
        ("a", b"", {"K": "v" * (2 << 20)}),
    ],
    ids=["subject", "body", "headers"],
)
async def test_something_oversized_is_refused_and_the_connection_lives(
    bus: Bus, subject: str, body: bytes, headers: dict[str, str] | None
) -> None:
    with pytest.raises(Oversized):
        await bus.publish(subject, body, headers=headers)
    with pytest.raises(Oversized):
        await bus.request(subject, body, headers=headers)
    with pytest.raises(NoResponders):
        await bus.request("nobody.home", b"")
    assert bus.connected


async def test_it_comes_back_after_a_crash_with_its_subscriptions(nats_server: NatsServer, bus: Bus) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    back = asyncio.Event()
    bus.on_reconnect(back.set)
    await bus.subscribe("a", lambda msg: heard.put_nowait(msg.body))
    nats_server.kill()
    await nats_server.start()
    await back.wait()
    await bus.publish("a", b"again")
    assert await heard.get() == b"again"


async def test_a_request_in_flight_fails_when_the_server_dies_and_one_made_meanwhile_waits(
    nats_server: NatsServer, bus: Bus
) -> None:
    await bus.subscribe("silent", lambda msg: None)
    lost = asyncio.create_task(bus.request("silent", b"", seconds=60))
    await bus.flush()
    nats_server.kill()
    with pytest.raises(LogUnavailable, match="lost"):
        await lost
    assert not bus.connected
    waiting = asyncio.create_task(bus.request("$JS.API.INFO", b"", seconds=20))
    await nats_server.start()
    assert b"limits" in (await waiting).body


async def test_what_is_published_while_the_server_is_away_is_sent_when_it_is_back(
    nats_server: NatsServer, bus: Bus
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.subscribe("a", lambda msg: heard.put_nowait(msg.body))
    await bus.subscribe("silent", lambda msg: None)
    lost = asyncio.create_task(bus.request("silent", b"", seconds=60))
    await bus.flush()
    nats_server.kill()
    await asyncio.wait({lost})
    assert isinstance(lost.exception(), LogUnavailable)
    await bus.publish("a", b"kept")
    kept = await asyncio.gather(*(bus.publish("b", bytes(500_000)) for _ in range(10)), return_exceptions=True)
    assert kept[0] is None
    assert isinstance(kept[-1], LogUnavailable)
    await nats_server.start()
    assert await heard.get() == b"kept"


async def test_an_end_of_reconnect_callbacks_is_kept(nats_server: NatsServer, bus: Bus) -> None:
    calls: list[str] = []
    back = asyncio.Event()
    forget = bus.on_reconnect(lambda: calls.append("forgotten"))
    bus.on_reconnect(lambda: calls.append("kept"))
    bus.on_reconnect(back.set)
    forget()
    forget()
    nats_server.kill()
    await nats_server.start()
    await back.wait()
    assert calls == ["kept"]


async def test_an_orderly_end_calls_nobody(nats_url: str) -> None:
    called: list[str] = []
    async with connect(nats_url, name="x", on_closed=lambda: called.append("closed")) as bus:
        assert bus.connected
    assert bus.closed.is_set()
    assert not called
    with pytest.raises(LogUnavailable):
        await bus.request("a", b"")
    with pytest.raises(LogUnavailable):
        await bus.publish("a", b"")


async def test_no_server_is_told_in_one_line_without_the_password() -> None:
    url = f"nats://user:secret@127.0.0.1:{free_port()}"
    with pytest.raises(NatsUnreachable) as unreachable:
        async with connect(url, name="x", seconds=0.3):
            pass
    text = str(unreachable.value)
    assert "127.0.0.1" in text
    assert "secret" not in text
    assert "\n" not in text


async def test_something_else_on_the_port_is_told(nats_server: NatsServer) -> None:
    web = nats_server.monitor_url.replace("http", "nats")
    with pytest.raises(NatsUnreachable):
        async with connect(web, name="x", seconds=0.5):
            pass


async def test_a_server_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    port = free_port()

    async def come() -> None:
        async with connect(f"nats://127.0.0.1:{port}", name="x", seconds=20) as bus:
            await bus.flush()

    coming = asyncio.create_task(come())
    async with NatsServer(tmp_path / "late", port=port, sync_always=False):
        await coming


async def test_one_of_several_servers_is_enough(nats_url: str) -> None:
    async with connect(f"nats://127.0.0.1:{free_port()}, {nats_url}", name="x") as bus:
        await bus.flush()


async def test_the_servers_version_is_known(bus: Bus) -> None:
    assert bus.server_version.startswith("2.")


async def test_a_server_that_lets_nobody_in_is_told_at_once() -> None:
    async with FakeServer(refuses=True) as server, asyncio.timeout(3):
        with pytest.raises(NatsUnreachable, match=r"(?i)authorization"):
            async with connect(server.url, name="x", user="me", password="wrong"):
                pass


async def test_a_connection_lost_for_good_is_told_to_its_process_and_to_who_waits() -> None:
    gone = asyncio.Event()
    async with FakeServer() as server, connect(server.url, name="x", on_closed=gone.set) as bus:
        waiting = asyncio.create_task(bus.request("silent", b"", seconds=60))
        await bus.flush()
        await bus.publish("die", b"")
        await gone.wait()
        with pytest.raises(LogUnavailable, match="lost"):
            await waiting
        assert bus.closed.is_set()
        assert not bus.connected
        with pytest.raises(LogUnavailable, match="closed"):
            await bus.request("silent", b"", seconds=60)


async def test_who_waits_for_a_server_is_told_when_the_process_leaves(nats_server: NatsServer) -> None:
    async with connect(nats_server.url, name="x") as bus:
        await bus.subscribe("silent", lambda msg: None)
        lost = asyncio.create_task(bus.request("silent", b"", seconds=60))
        await bus.flush()
        nats_server.kill()
        await asyncio.wait({lost})
        waiting = asyncio.create_task(bus.request("silent", b"", seconds=60))
    assert isinstance(lost.exception(), LogUnavailable)
    with pytest.raises(LogUnavailable, match="closed"):
        await waiting
