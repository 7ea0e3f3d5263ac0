"""The inbox: commands arrive at least once and are gone when acked, timers fire once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.nats_server import NatsServer
from events.clock import SystemClock
from events.ids import InvalidToken
from events.jetstream.api import CALLBOARD_INBOX, Answer, ask
from events.jetstream.connection import Bus, connect
from events.jetstream.inbox import Inbox
from events.jetstream.queues import Delivery, Pull
from events.jetstream.streams import INBOX_CONSUMER, ensure_streams
from events.subjects import Address

AGENT = Address("acme", "run_1", "s1")
CLOCK = SystemClock()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="inbox") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def inbox(bus: Bus) -> Inbox:
    return Inbox(bus)


@pytest.fixture
async def arrived(bus: Bus) -> AsyncIterator[asyncio.Queue[Delivery]]:
    queue: asyncio.Queue[Delivery] = asyncio.Queue()
    async with Pull(bus, CALLBOARD_INBOX, INBOX_CONSUMER, deliver=queue.put_nowait, free=lambda: 1000):
        yield queue


class _Stream(Answer, frozen=True):
    state: dict[str, object] = {}


async def waiting(bus: Bus) -> object:
    """How many messages the inbox holds, timers included."""
    return (await ask(bus, f"STREAM.INFO.{CALLBOARD_INBOX}", None, answer=_Stream)).state["messages"]


async def test_a_command_arrives_with_its_id_and_is_gone_when_acked(
    bus: Bus, inbox: Inbox, arrived: asyncio.Queue[Delivery]
) -> None:
    assert (
        await inbox.send(AGENT, "child_done", b'{"id":"c"}', command_id="cmd_1", headers={"traceparent": "00-x"}) == 1
    )
    command = await arrived.get()
    assert command.subject == "cb.acme.cmd.run_1.s1.-.child_done"
    assert (command.headers["ce-id"], command.headers["traceparent"]) == ("cmd_1", "00-x")
    assert (command.body, command.stream, command.seq) == (b'{"id":"c"}', CALLBOARD_INBOX, 1)
    await command.ack_sync()
    assert await waiting(bus) == 0


async def test_a_command_sent_while_the_server_restarts_arrives(
    nats_server: NatsServer, inbox: Inbox, arrived: asyncio.Queue[Delivery]
) -> None:
    nats_server.kill()
    sending = asyncio.create_task(inbox.send(AGENT, "cancel", b"{}", command_id="cmd_1"))
    await nats_server.start()
    await sending
    assert (await arrived.get()).headers["ce-id"] == "cmd_1"


async def test_a_timer_becomes_a_command_when_it_is_due_and_only_once(
    bus: Bus, inbox: Inbox, arrived: asyncio.Queue[Delivery]
) -> None:
    due = CLOCK.now_ms() + 400
    await inbox.schedule(AGENT, "deadline", at_ms=due, verb="timer", body=b'{"timer":"t1"}')
    command = await arrived.get()
    assert due <= CLOCK.now_ms() <= due + 1500
    assert (command.subject, command.body) == ("cb.acme.cmd.run_1.s1.-.timer", b'{"timer":"t1"}')
    await command.ack_sync()
    assert await waiting(bus) == 0
    assert arrived.empty()


async def test_a_timer_set_again_fires_once_at_its_new_time(inbox: Inbox, arrived: asyncio.Queue[Delivery]) -> None:
    now = CLOCK.now_ms()
    await inbox.schedule(AGENT, "watch", at_ms=now + 300, verb="timer", body=b"first")
    await inbox.schedule(AGENT, "watch", at_ms=now + 900, verb="timer", body=b"second")
    assert (await arrived.get()).body == b"second"
    assert CLOCK.now_ms() >= now + 900
    assert arrived.empty()


async def test_timers_of_different_names_and_actors_do_not_replace_each_other(
    inbox: Inbox, arrived: asyncio.Queue[Delivery]
) -> None:
    now = CLOCK.now_ms()
    for address, timer in ((AGENT, "a"), (AGENT, "b"), (AGENT.at("s2"), "a")):
        await inbox.schedule(address, timer, at_ms=now, verb="timer", body=f"{address} {timer}".encode())
    assert len({(await arrived.get()).body for _ in range(3)}) == 3


async def test_a_timer_taken_away_does_not_fire(bus: Bus, inbox: Inbox, arrived: asyncio.Queue[Delivery]) -> None:
    now = CLOCK.now_ms()
    await inbox.schedule(AGENT, "backoff", at_ms=now + 300, verb="timer", body=b"taken away")
    await inbox.schedule(AGENT, "other", at_ms=now + 900, verb="timer", body=b"left")
    await inbox.unschedule(AGENT, "backoff")
    await inbox.unschedule(AGENT, "never-was")
    assert (await arrived.get()).body == b"left"
    assert await waiting(bus) == 1


async def test_a_timer_due_while_the_server_was_away_fires_once_when_it_is_back(
    nats_server: NatsServer, inbox: Inbox, arrived: asyncio.Queue[Delivery]
) -> None:
    await inbox.schedule(AGENT, "deadline", at_ms=CLOCK.now_ms() + 50, verb="timer", body=b"due")
    await inbox.schedule(AGENT, "later", at_ms=CLOCK.now_ms() + 2000, verb="timer", body=b"later")
    nats_server.kill()
    await nats_server.start()
    assert (await arrived.get()).body == b"due"
    assert (await arrived.get()).body == b"later"


async def test_a_thousand_timers_fire_each_once(inbox: Inbox, arrived: asyncio.Queue[Delivery]) -> None:
    at = CLOCK.now_ms() + 500
    await asyncio.gather(
        *(inbox.schedule(AGENT, f"t{n}", at_ms=at, verb="timer", body=str(n).encode()) for n in range(1000))
    )
    fired = [(await arrived.get()).body for _ in range(1000)]
    assert sorted(fired) == sorted(str(n).encode() for n in range(1000))
    assert arrived.empty()


@pytest.mark.parametrize("name", ["*", ">", "a.b", ""])
async def test_a_name_that_reaches_elsewhere_is_refused(inbox: Inbox, name: str) -> None:
    with pytest.raises(InvalidToken):
        await inbox.send(AGENT, name, b"", command_id="c")
    with pytest.raises(InvalidToken):
        await inbox.schedule(AGENT, name, at_ms=0, verb="timer", body=b"")
    with pytest.raises(InvalidToken):
        await inbox.schedule(AGENT, "t", at_ms=0, verb=name, body=b"")
    with pytest.raises(InvalidToken):
        await inbox.unschedule(Address("acme", name), "t")
    with pytest.raises(InvalidToken):
        await inbox.unschedule(AGENT, name)
