"""Streams of events through a real gateway: exactly the log, whatever happens to the client, the gateway or Postgres."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import httpx2
import msgspec
import pytest

from deploy.nats_server import NatsServer
from events.envelope import Record, structured
from events.jetstream.api import CALLBOARD, Answer, ask
from events.subjects import Address, delta_subject, run_scope
from gateway.gateway import Limits
from tests.doors import Doors, open_doors
from tests.history import History, entry
from tests.sse import Event, events, streaming
from tests.stories import Story, told

RUN = "run_1"
ENDS = ("run.succeeded.v1", "run.failed.v1", "run.canceled.v1")


@pytest.fixture
async def doors(nats_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    """No Postgres at all: streams need the log only."""
    async with open_doors(nats_url, "", tmp_path, limits=Limits(heartbeat_seconds=0.2)) as doors:
        yield doors


def stories(seed: int, *, count: int = 3) -> list[Record]:
    """Some runs told at once, RUN among them."""
    chance = Random(seed)
    history = History(RUN)
    tellers = [told(Story(history), chance)]
    tellers += [told(Story(history.beside(f"run_{number + 2}")), chance) for number in range(count - 1)]
    while tellers:
        teller = chance.choice(tellers)
        if next(teller, "over") == "over":
            tellers.remove(teller)
    return history.records


async def append(doors: Doors, records: Sequence[Record], lasts: dict[Address, int]) -> None:
    for record in records:
        stored = await doors.system.facts.append(entry(record), expected=lasts.get(record.address, 0))
        assert stored == record.seq
        lasts[record.address] = record.seq


def of_run(records: Sequence[Record], run: str = RUN) -> list[Record]:
    return [record for record in records if record.address.run == run]


def facts(found: Sequence[Event]) -> list[Event]:
    return [event for event in found if event.id and event.name != "snapshot"]


def assert_is_log(found: Sequence[Event], records: Sequence[Record]) -> None:
    assert [event.id for event in facts(found)] == [str(record.seq) for record in records]
    assert [event.data.encode() for event in facts(found)] == [
        msgspec.json.encode(structured(record)) for record in records
    ]


async def read_some(http: httpx2.AsyncClient, path: str, last: str, *, most: int) -> tuple[list[Event], bool]:
    """Read up to `most` events behind `last`, then break off; tell whether the stream has ended for good."""
    found: list[Event] = []
    headers = {"Last-Event-ID": last} if last else {}
    try:
        async with http.stream("GET", path, params={} if last else {"after": "0"}, headers=headers) as response:
            if response.status_code == 204:
                return found, True
            async for event in events(response):
                found += [event] if event.id else []
                if event.name in ("end", "error") or len(found) >= most:
                    return found, event.name == "end"
    except httpx2.TransportError:
        pass  # the gateway was restarted
    return found, False


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_cut_off_at_random_points_and_across_restarts_receives_exactly_the_log(
    doors: Doors, seed: int
) -> None:
    records, chance = stories(seed), Random(seed)
    lasts: dict[Address, int] = {}
    found: list[Event] = []

    async def write() -> None:
        third = len(records) // 3
        await append(doors, records[:third], lasts)
        await doors.restart()
        await append(doors, records[third : 2 * third], lasts)
        await doors.restart()
        await append(doors, records[2 * third :], lasts)

    async def read() -> None:
        ended = False
        while not ended:
            some, ended = await read_some(
                doors.http, f"/v1/runs/{RUN}/events/stream", found[-1].id if found else "", most=chance.randint(1, 12)
            )
            found.extend(some)

    await append(doors, records[:1], lasts)
    records_left = records[1:]
    records[:] = records_left
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(read())
    stored = await doors.system.facts.load(run_scope("default", RUN))
    assert_is_log(found, stored)


async def test_a_stream_begins_with_a_snapshot_and_ends_with_its_run(doors: Doors) -> None:
    records, lasts = stories(1, count=1), dict[Address, int]()
    await append(doors, records[:5], lasts)
    async with streaming(doors.http, f"/v1/runs/{RUN}/events/stream") as stream:
        first = await anext(stream)
        await append(doors, records[5:], lasts)
        rest = [event async for event in stream]
    assert first.name == "snapshot"
    assert first.json["status"] == "running"
    assert first.id == str(first.json["seq"]) == "5"
    assert rest[-1].name == "end"
    assert rest[-1].json == {"run": RUN, "seq": records[-1].seq}
    assert_is_log(rest, records[5:])


async def test_behind_the_end_there_is_nothing_to_stream(doors: Doors) -> None:
    records = stories(2, count=1)
    await append(doors, records, {})
    path = f"/v1/runs/{RUN}/events/stream"
    answer = await doors.http.get(path, headers={"Last-Event-ID": str(records[-1].seq)})
    assert answer.status_code == 204
    async with streaming(doors.http, path) as stream:
        found = [event async for event in stream]
    assert [event.name for event in found] == ["snapshot", "end"]
    assert found[0].json["status"] in ("succeeded", "failed", "canceled", "timed_out")
    async with streaming(doors.http, path, params={"after": "0"}) as stream:
        assert_is_log([event async for event in stream], records)


async def test_types_may_be_chosen_and_the_end_comes_all_the_same(doors: Doors) -> None:
    records = stories(3, count=1)
    await append(doors, records, {})
    async with streaming(
        doors.http, f"/v1/runs/{RUN}/events/stream", params={"after": "0", "type": ["tool.completed", "step"]}
    ) as stream:
        found = [event async for event in stream]
    wanted = [r for r in records if r.type.startswith("step.") or r.type == "tool.completed.v1"] + records[-1:]
    assert_is_log(found, wanted)
    assert found[-1].name == "end"


@pytest.mark.parametrize(
    ("runs", "types"),
    [((), ()), (("run_1", "run_3"), ()), ((), ("tool", "run.requested")), (("run_2", "run_3"), ("step",))],
)
async def test_one_stream_carries_many_runs_in_the_order_of_the_log(
    doors: Doors, runs: tuple[str, ...], types: tuple[str, ...]
) -> None:
    records, lasts = stories(4), dict[Address, int]()
    half = len(records) // 2
    await append(doors, records[:half], lasts)

    def wanted(record: Record) -> bool:
        name = record.type.removesuffix(".v1")
        return (not runs or record.address.run in runs) and (
            not types or name in types or name.partition(".")[0] in types
        )

    expected = [record for record in records if wanted(record)]
    found: list[Event] = []
    async with streaming(
        doors.http, "/v1/events/stream", params={"after": "0", "run": list(runs), "type": list(types)}
    ) as stream:
        await append(doors, records[half:], lasts)
        async for event in stream:
            found += [event] if event.id else []
            if len(found) == len(expected):
                break
    assert_is_log(found, expected)


async def test_a_firehose_without_a_place_begins_with_a_snapshot_of_its_runs(doors: Doors) -> None:
    records = stories(5)
    await append(doors, records, {})
    async with streaming(doors.http, "/v1/events/stream", params={"run": ["run_1", "run_2"]}) as stream:
        first = await anext(stream)
    assert first.name == "snapshot"
    assert [run["id"] for run in first.json["runs"]] == ["run_1", "run_2"]
    assert first.json["seq"] == records[-1].seq


async def test_a_run_nobody_knows_or_a_place_beyond_the_log_is_refused_before_the_stream(doors: Doors) -> None:
    await append(doors, stories(1, count=1)[:3], {})
    other = {"Callboard-Workspace": "other"}
    tries = [
        (f"/v1/runs/{RUN}/events/stream", other, 404),
        ("/v1/runs/run_none/events/stream", {}, 404),
        ("/v1/events/stream?run=run_none", {}, 404),
        ("/v1/events/stream?run=a.b", {}, 422),
        ("/v1/events/stream?run=*", {}, 422),
        (f"/v1/runs/{RUN}/events/stream?after=-1", {}, 422),
        (f"/v1/runs/{RUN}/events/stream?after=4", {}, 422),
        (f"/v1/runs/{RUN}/events/stream?type=nonsense", {}, 422),
        (f"/v1/runs/{RUN}/events/stream", {"Last-Event-ID": "abc"}, 422),
        (f"/v1/runs/{RUN}/events/stream", {"Last-Event-ID": "9" * 30}, 422),
        ("/v1/events/stream", {"Callboard-Workspace": "a.>"}, 422),
    ]
    for path, headers, status in tries:
        answer = await doors.http.get(path, headers=headers)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_idle_stream_beats_and_tells_the_proxies_to_leave_it_alone(doors: Doors) -> None:
    await append(doors, stories(1, count=1)[:3], {})
    async with doors.http.stream("GET", f"/v1/runs/{RUN}/events/stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["request-id"].startswith("req_")
        found = [event async for _, event in _first(events(response), 3)]
    assert [event.name for event in found] == ["snapshot", ":", ":"]


async def _first(stream: AsyncIterator[Event], count: int) -> AsyncIterator[tuple[int, Event]]:
    for number in range(count):
        yield number, await anext(stream)


async def test_deltas_come_without_an_id_and_only_to_who_asks(doors: Doors) -> None:
    await append(doors, stories(1, count=1)[:3], {})
    path = f"/v1/runs/{RUN}/events/stream"
    subject = delta_subject(Address("default", RUN, "stp_1"))
    async with (
        streaming(doors.http, path, params={"deltas": "1"}) as hearing,
        streaming(doors.http, path) as deaf,
    ):
        await anext(hearing)
        await anext(deaf)
        body = msgspec.json.encode({"turn": 2, "text": "Hello"})
        await doors.system.bus.publish(delta_subject(Address("other", RUN, "stp_1")), body)
        await doors.system.bus.publish(subject, b"not json")
        await doors.system.bus.publish(subject, body)
        heard = [event async for event in _until(hearing, "delta")][-1]
        assert heard.id == ""
        assert heard.json == {"run": RUN, "step": "stp_1", "turn": 2, "text": "Hello"}
        assert [(await anext(deaf)).name, (await anext(deaf)).name] == [":", ":"]


async def _until(stream: AsyncIterator[Event], name: str) -> AsyncIterator[Event]:
    async for event in stream:
        yield event
        if event.name == name:
            return


async def test_a_gateway_that_stops_sends_its_clients_away_with_a_place_to_resume_from(doors: Doors) -> None:
    await append(doors, stories(1, count=1)[:3], {})
    async with streaming(doors.http, f"/v1/runs/{RUN}/events/stream") as stream:
        await anext(stream)
        async with asyncio.timeout(4):
            await doors.end()
            found = [event async for event in stream if event.name != ":"]
    assert [event.name for event in found] == ["error"]
    assert found[0].json["code"] == "draining"
    assert found[0].json["retryable"] is True
    await doors.begin()


async def test_only_so_many_streams_are_served_at_once(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path, limits=Limits(streams_max=2)) as doors:
        await append(doors, stories(1, count=1)[:3], {})
        path = f"/v1/runs/{RUN}/events/stream"
        async with streaming(doors.http, path) as one, streaming(doors.http, path) as two:
            await anext(one)
            await anext(two)
            answer = await doors.http.get(path)
            assert answer.status_code == 503
            assert answer.json()["code"] == "too_many_streams"
            assert int(answer.headers["retry-after"]) > 0
        async with asyncio.timeout(10):
            while (await doors.http.get("/readyz")).json()["streams"]:
                pass
        async with streaming(doors.http, path) as again:
            assert (await anext(again)).name == "snapshot"


async def test_a_client_that_reads_too_slowly_is_left_and_resumes_without_a_gap(nats_url: str, tmp_path: Path) -> None:
    limits = Limits(stream_frames_max=64, stream_bytes_max=64 * 1024, heartbeat_seconds=0.5)
    async with open_doors(nats_url, "", tmp_path, limits=limits) as doors:
        history = History(RUN)
        story = Story(history)
        story.start()
        story.begin("analyze")
        began = len(history.records)
        for turn in range(1, 400):
            story.tick("analyze", turn, text="x" * 20_000)
        story.succeed("analyze")
        story.succeeded()
        lasts: dict[Address, int] = {}
        await append(doors, history.records[:began], lasts)
        found: list[Event] = []
        async with streaming(doors.http, f"/v1/runs/{RUN}/events/stream", params={"after": "0"}) as stream:
            found.append(await anext(stream))
            await append(doors, history.records[began:], lasts)  # nothing is read meanwhile
            found += [event async for event in stream]
        assert found[-1].name == "error"
        assert found[-1].json["code"] == "too_slow"
        found = facts(found)
        assert len(found) < len(history.records)
        async with streaming(
            doors.http, f"/v1/runs/{RUN}/events/stream", headers={"Last-Event-ID": found[-1].id}
        ) as stream:
            found += facts([event async for event in stream])
        assert_is_log(found, history.records)


async def test_a_new_run_is_followed_from_the_request_that_makes_it(doors: Doors) -> None:
    headers = {"Accept": "text/event-stream"}
    async with doors.http.stream("POST", "/v1/runs", json={"goal": "write a haiku"}, headers=headers) as response:
        assert response.status_code == 202
        run = response.headers["location"].rpartition("/")[2]
        stream = events(response)
        first = await anext(stream)
        assert (first.name, first.json["id"], first.json["status"]) == ("snapshot", run, "queued")
        await doors.post(f"/v1/runs/{run}/cancel", {"reason": "enough"})
        found = [event async for event in _until(stream, "run.cancel_requested")]
    assert found[-1].json["data"]["reason"] == "enough"


async def test_while_nats_is_away_commands_are_refused_and_streams_wait(nats_server: NatsServer, doors: Doors) -> None:
    records, lasts = stories(6, count=1), dict[Address, int]()
    await append(doors, records[:3], lasts)
    async with streaming(doors.http, f"/v1/runs/{RUN}/events/stream") as stream:
        assert (await anext(stream)).name == "snapshot"
        nats_server.kill()
        answer = await doors.http.post("/v1/runs", json={"goal": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await doors.http.get("/healthz")).status_code == 200
        ready = await doors.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        await nats_server.start()
        await append(doors, records[3:], lasts)
        async with asyncio.timeout(30):
            assert_is_log([event async for event in stream], of_run(records)[3:])
        assert (await doors.get("/readyz"))["tail"] == "ok"


async def purge(doors: Doors, **what: object) -> None:
    await ask(doors.system.bus, f"STREAM.PURGE.{CALLBOARD}", dict(what), answer=Answer)


async def test_of_a_purged_run_no_place_is_left_to_go_on_from_but_behind_its_end(doors: Doors) -> None:
    told = (stories(seed, count=2) for seed in range(100))
    records = next(each for each in told if all(of_run(each, run)[-1].type in ENDS for run in (RUN, "run_2")))
    await append(doors, records, {})
    mine, other = of_run(records), of_run(records, "run_2")
    await purge(doors, filter=run_scope("default", RUN), keep=1)
    last = mine[-1].seq
    for place in ({"params": {"after": 0}}, {"headers": {"Last-Event-ID": str(mine[2].seq)}}, {}):
        answer = await doors.http.get(f"/v1/runs/{RUN}/events/stream", **place)  # type: ignore[arg-type]
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (410, "sequence_expired")
        assert problem["recorded"] == {"oldest": last}
        assert problem["retryable"] is False
    assert (await doors.http.get(f"/v1/runs/{RUN}/events/stream", params={"after": last})).status_code == 204
    async with streaming(doors.http, "/v1/runs/run_2/events/stream", params={"after": 0}) as stream:
        assert_is_log([event async for event in stream], other)


async def test_a_firehose_from_a_place_before_the_oldest_event_is_gone(doors: Doors) -> None:
    records = stories(7, count=1)
    await append(doors, records, {})
    await purge(doors, seq=4)
    answer = await doors.http.get("/v1/events/stream", params={"after": 2})
    assert (answer.status_code, answer.json()["recorded"]) == (410, {"oldest": 4})
    async with streaming(doors.http, "/v1/events/stream", params={"after": 3}) as stream:
        assert (await anext(stream)).id == "4"
    async with streaming(doors.http, "/v1/events/stream", params={"after": 0}) as stream:
        assert (await anext(stream)).id == "4"
