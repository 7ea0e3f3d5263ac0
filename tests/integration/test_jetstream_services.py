"""Operations as a NATS micro service, as nats-py's own reading of the protocol sees it."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from events.jetstream.connection import Bus, Msg, NoResponders, connect
from events.jetstream.services import Endpoint, ServiceError, serve


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="services") as bus:
        yield bus


async def create(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
    return b"made " + msg.body, {"Workspace": msg.subject.split(".")[1]}


async def refuse(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
    raise ServiceError(404, "no such run", b'{"status":404}')


async def fail(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
    raise RuntimeError("secret detail")


async def too_much(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
    return bytes(2 << 20), {}


ENDPOINTS = [
    Endpoint(noun="runs", verb="create", subject="cb.*.api.runs.create", answer=create, metadata={"schema": "x"}),
    Endpoint(noun="runs", verb="show", subject="cb.*.api.runs.show", answer=refuse),
    Endpoint(noun="runs", verb="break", subject="cb.*.api.runs.break", answer=fail),
    Endpoint(noun="runs", verb="export", subject="cb.*.api.runs.export", answer=too_much),
]


@pytest.fixture
async def served(bus: Bus) -> AsyncIterator[None]:
    async with serve(bus, version="0.1.0", endpoints=ENDPOINTS, description="teams of agents"):
        yield


@pytest.mark.usefixtures("served")
async def test_a_request_in_any_workspace_is_answered(bus: Bus) -> None:
    reply = await bus.request("cb.acme.api.runs.create", b"this")
    assert (reply.body, reply.headers["Workspace"]) == (b"made this", "acme")


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("verb", "code", "description", "body"),
    [
        ("show", "404", "no such run", b'{"status":404}'),
        ("break", "500", "internal error", b""),
        (
            "export",
            "413",
            "body: 2097152 bytes, and NATS is sent at most 921600; long content goes to the blob store",
            b"",
        ),
    ],
)
async def test_an_error_is_told_in_the_headers(bus: Bus, verb: str, code: str, description: str, body: bytes) -> None:
    reply = await bus.request(f"cb.acme.api.runs.{verb}", b"")
    assert reply.headers["Nats-Service-Error-Code"] == code
    assert reply.headers["Nats-Service-Error"] == description
    assert reply.body == body


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("tail", ["", ".callboard"])
async def test_it_is_found_and_tells_what_it_offers(bus: Bus, tail: str) -> None:
    ping = ServicePing.from_dict(msgspec.json.decode((await bus.request(f"$SRV.PING{tail}", b"")).body))
    assert (ping.name, ping.version) == ("callboard", "0.1.0")

    reply = await bus.request(f"$SRV.INFO{tail}", b"")
    info = ServiceInfo.from_dict(msgspec.json.decode(reply.body))
    assert info.type == "io.nats.micro.v1.info_response"
    assert (info.id, info.description) == (ping.id, "teams of agents")
    first = info.endpoints[0]
    assert (first.name, first.subject, first.queue_group) == ("runs-create", "cb.*.api.runs.create", "q")
    assert first.metadata == {"schema": "x"}
    assert (await bus.request(f"$SRV.INFO.callboard.{ping.id}", b"")).body == reply.body


@pytest.mark.usefixtures("served")
async def test_its_counts_tell_requests_errors_and_time(bus: Bus) -> None:
    for _ in range(3):
        await bus.request("cb.acme.api.runs.create", b"")
    await bus.request("cb.acme.api.runs.show", b"")
    stats = ServiceStats.from_dict(msgspec.json.decode((await bus.request("$SRV.STATS.callboard", b"")).body))
    assert stats.type == "io.nats.micro.v1.stats_response"
    created, shown = stats.endpoints[:2]
    assert (created.num_requests, created.num_errors, created.last_error) == (3, 0, "")
    assert created.processing_time > 0
    assert created.average_processing_time > 0
    assert (shown.num_requests, shown.num_errors, shown.last_error) == (1, 1, "404:no such run")


async def test_a_slow_answer_does_not_hold_up_the_next_and_the_many_are_bounded(bus: Bus) -> None:
    go = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def slow(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
        begun.release()
        await go.wait()
        return b"done", {}

    endpoint = Endpoint(noun="x", verb="slow", subject="cb.*.api.x.slow", answer=slow)
    async with serve(bus, version="0.1.0", endpoints=[endpoint], requests_max=5):
        asked = [asyncio.create_task(bus.request("cb.a.api.x.slow", b"", seconds=30)) for _ in range(5)]
        for _ in range(5):
            await begun.acquire()
        busy = await bus.request("cb.a.api.x.slow", b"")
        assert busy.headers["Nats-Service-Error-Code"] == "503"
        go.set()
        assert [reply.body for reply in await asyncio.gather(*asked)] == [b"done"] * 5


async def test_two_processes_share_the_requests_and_one_may_leave(bus: Bus, nats_url: str) -> None:
    answered: list[str] = []

    def endpoint(name: str) -> Endpoint:
        async def answer(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
            answered.append(name)
            return b"", {}

        return Endpoint(noun="x", verb="y", subject="cb.*.api.x.y", answer=answer)

    async with connect(nats_url, name="second") as second, serve(second, version="0.1.0", endpoints=[endpoint("two")]):
        async with serve(bus, version="0.1.0", endpoints=[endpoint("one")]):
            await asyncio.gather(*(bus.request("cb.a.api.x.y", b"") for _ in range(200)))
            assert set(answered) == {"one", "two"}
            assert len(answered) == 200
        answered.clear()
        await bus.request("cb.a.api.x.y", b"")
        assert answered == ["two"]


async def test_what_is_in_hand_is_answered_before_the_end(bus: Bus, nats_url: str) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(msg: Msg) -> tuple[bytes, Mapping[str, str]]:
        begun.set()
        await go.wait()
        return b"done", {}

    async with connect(nats_url, name="asker") as asker:
        async with serve(
            bus, version="0.1.0", endpoints=[Endpoint(noun="x", verb="y", subject="cb.*.api.x.y", answer=slow)]
        ):
            asked = asyncio.create_task(asker.request("cb.a.api.x.y", b""))
            await begun.wait()
            asyncio.get_running_loop().call_soon(go.set)
        assert (await asked).body == b"done"
        with pytest.raises(NoResponders):
            await asker.request("cb.a.api.x.y", b"")
