"""The tail of the log handed to listeners: places of joining, filters, full queues, and an end for everyone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from events.envelope import Record
from events.jetstream.connection import Bus
from events.log import Log
from events.memory import MemoryLog
from events.subjects import Address
from gateway.replay import merged
from gateway.stream import Feed, stream
from gateway.tail import Frame, Listener, Tail, Wanted
from tests.history import History, entry
from tests.stories import Story


def three_runs() -> list[Record]:
    history = History("run_1")
    tellings = [Story(history), Story(history.beside("run_2")), Story(history.beside("run_3", "other"))]
    for story in tellings:
        story.start()
        story.begin("analyze")
        story.tick("analyze", 1)
    tellings[0].succeeded()
    return history.records


async def pour(log: Log, records: list[Record]) -> None:
    lasts: dict[Address, int] = {}
    for record in records:
        lasts[record.address] = await log.append(entry(record), expected=lasts.get(record.address, 0))


@asynccontextmanager
async def following(log: Log, *, frames_max: int = 1000) -> AsyncGenerator[Tail]:
    tail = Tail(log, Bus(), frames_max=frames_max)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(tail.run())
        await tail.ready.wait()
        yield tail
        running.cancel()


async def take(listener: Listener, count: int) -> list[Frame]:
    found: list[Frame] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await listener.next(1)
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("default"),
        Wanted("other"),
        Wanted("default", frozenset({"run_1"})),
        Wanted("default", frozenset({"run_1", "run_2"}), frozenset({"tool"})),
        Wanted("default", frozenset({"run_1"}), frozenset({"tool.completed"}), ends=True),
        Wanted("default", names=frozenset({"run.requested", "agent"})),
    ],
)
async def test_a_listener_gets_what_it_wants_and_nothing_else(wanted: Wanted) -> None:
    log, records = MemoryLog(), three_runs()
    expected = [
        record.seq
        for record in records
        if record.address.workspace == wanted.workspace
        and (not wanted.runs or record.address.run in wanted.runs)
        and wanted.takes(record)
    ]
    async with following(log) as tail:
        with tail.join(wanted) as listener:
            await pour(log, records)
            assert [frame.seq for frame in await take(listener, len(expected))] == expected
            assert await listener.next(0) == []
        assert tail.listening == 0


async def test_who_joins_later_starts_where_the_tail_is() -> None:
    log, records = MemoryLog(), three_runs()
    async with following(log) as tail:
        with tail.join(Wanted("default")) as early:
            await pour(log, records[:5])
            await take(early, len([record for record in records[:5] if record.address.workspace == "default"]))
            with tail.join(Wanted("default")) as late:
                assert (early.start, late.start) == (0, 5)


async def test_a_full_queue_takes_no_more_and_says_so() -> None:
    log, records = MemoryLog(), three_runs()
    async with following(log, frames_max=3) as tail:
        with tail.join(Wanted("default")) as slow, tail.join(Wanted("other")) as other:
            await pour(log, records)
            await take(other, 1)
            assert slow.overflowed
            first = [record.seq for record in records if record.address.workspace == "default"][:3]
            assert [frame.seq for frame in await slow.next(1)] == first
            assert await slow.next(1) == []


async def test_a_delta_that_finds_no_room_is_lost_alone() -> None:
    listener = Listener(Wanted("default"), start=0, frames_max=1, bytes_max=1000)
    listener.push(Frame(0, "run_1", "delta", b"{}"))
    listener.push(Frame(0, "run_1", "delta", b"{}"))
    assert not listener.overflowed
    assert len(await listener.next(0)) == 1


async def test_the_end_of_the_tail_wakes_everyone() -> None:
    async with following(MemoryLog()) as tail:
        with tail.join(Wanted("default")) as listener:
            waiting = asyncio.create_task(listener.next(60))
            await asyncio.sleep(0)
            tail.end("draining")
            assert await waiting == []
            assert tail.over == "draining"
            tail.end("log_lost")
            assert tail.over == "draining"


async def test_several_scopes_are_merged_in_the_order_of_the_log() -> None:
    log, records = MemoryLog(), three_runs()
    await pour(log, records)
    scopes = ["cb.default.evt.run_2.>", "cb.other.evt.>", "cb.default.evt.run_1.>", "cb.nobody.evt.>"]
    found = [record.seq async for batch in merged(log, scopes, after=2, upto=len(records) - 1) for record in batch]
    assert found == list(range(3, len(records)))


async def test_a_replay_that_outlasts_its_queue_goes_on_from_the_log_and_loses_nothing() -> None:
    log, records = MemoryLog(), three_runs()
    await pour(log, records[:1])
    async with following(log, frames_max=2) as tail:
        feed = Feed(wanted=Wanted("default", frozenset({"run_1"}), ends=True), run=Address("default", "run_1"), after=0)
        chunks = stream(tail, feed)
        text = await anext(chunks) + await anext(chunks)
        with tail.join(Wanted("other")) as beside:  # while nobody reads, far more comes than the queue holds
            lasts = {records[0].address: 1}
            for record in records[1:]:
                lasts[record.address] = await log.append(entry(record), expected=lasts.get(record.address, 0))
            await take(beside, 1)
        async for chunk in chunks:
            text += chunk
    ids = [int(line[4:]) for line in text.decode().splitlines() if line.startswith("id: ")]
    assert ids == [record.seq for record in records if record.address.run == "run_1"]
    assert text.endswith(b'event: end\ndata: {"run":"run_1","seq":%d}\n\n' % ids[-1])


async def test_a_frame_is_one_line_of_data() -> None:
    text = Frame(7, "run_1", "tool.completed", b'{"text":"a\\nb"}').text
    assert text == b'id: 7\nevent: tool.completed\ndata: {"text":"a\\nb"}\n\n'
    assert Frame(0, "run_1", "delta", b"{}").text == b"event: delta\ndata: {}\n\n"
