"""The runner on real servers: killed, doubled, cut off, and told another story."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from deploy.postgres import Postgres
from events.codec import UnknownFact
from events.envelope import Record
from events.log import LogUnavailable
from events.memory import MemoryLog
from projections.errors import FoldFailed, LogRegressed, RebuildUnderway, VersionsDiffer
from projections.models import READ_MODELS
from projections.rebuild import dump, rebuild
from projections.runner import Runner
from projections.runs import PROJECTION as RUNS
from projections.runs import run
from projections.store import Store, open_store
from tests.history import History, entry
from tests.projected import project
from tests.stories import many

SECONDS = 30.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@asynccontextmanager
async def running(*runners: Runner) -> AsyncGenerator[None]:
    """Let runners work meanwhile; what one raises is raised here."""
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def poured(history: History, log: MemoryLog, start: int, end: int) -> None:
    """Append the records from `start` to `end` to the log, giving others their turn after each."""
    lasts = {record.address: record.seq for record in history.records[:start]}
    for record in history.records[start:end]:
        await log.append(entry(record), expected=lasts.get(record.address, 0))
        lasts[record.address] = record.seq
        await asyncio.sleep(0)


async def folded_by_hand(url: str, records: list[Record]) -> dict[str, list[str]]:
    async with open_store(url) as store:
        await rebuild(store, MemoryLog())
        await project(store, records)
        return await dump(store)


async def test_rows_follow_the_log_and_those_who_wait_for_a_fact_are_told(store: Store):
    history, log = many(3), MemoryLog()
    async with running(Runner(store, log)):
        waiting = asyncio.create_task(store.caught_up(len(history.records), SECONDS))
        await poured(history, log, 0, len(history.records))
        assert await waiting
        assert await store.position() == len(history.records)
        assert not await store.caught_up(len(history.records) + 1, 0.05)


async def test_fifty_who_wait_at_once_are_all_told(store: Store):
    history, log = many(2), MemoryLog()
    async with running(Runner(store, log)):
        waiting = [asyncio.create_task(store.caught_up(record.seq, SECONDS)) for record in history.records[:50]]
        await poured(history, log, 0, len(history.records))
        assert all(await asyncio.gather(*waiting))


async def test_a_runner_goes_on_where_another_stopped(store: Store, database_url: str):
    history, log = many(3), MemoryLog()
    half, end = len(history.records) // 2, len(history.records)
    await poured(history, log, 0, half)
    async with running(Runner(store, log)):
        assert await store.caught_up(half, SECONDS)
    await poured(history, log, half, end)
    async with running(Runner(store, log)):
        assert await store.caught_up(end, SECONDS)
    rows = await dump(store)
    assert rows == await folded_by_hand(database_url, history.records)


async def test_two_runners_at_once_fold_everything_once(store: Store, database_url: str):
    history, log = many(6), MemoryLog()
    async with open_store(database_url) as other, running(Runner(store, log), Runner(other, log)):
        await poured(history, log, 0, len(history.records))
        assert await store.caught_up(len(history.records), SECONDS)
    assert await dump(store) == await folded_by_hand(database_url, history.records)


async def test_a_runner_that_stands_by_takes_over(store: Store, database_url: str):
    history, log = many(6), MemoryLog()
    half, end = len(history.records) // 2, len(history.records)
    async with open_store(database_url) as other:
        first = asyncio.create_task(Runner(store, log).run())
        await poured(history, log, 0, half)
        assert await store.caught_up(half, SECONDS)
        async with running(Runner(other, log)):
            first.cancel()
            await poured(history, log, half, end)
            assert await store.caught_up(end, SECONDS)
    assert await dump(store) == await folded_by_hand(database_url, history.records)


async def test_postgres_killed_in_mid_stream_costs_nothing_but_time(tmp_path: Path):
    history, log = many(20), MemoryLog()
    end = len(history.records)
    async with Postgres(tmp_path / "postgres") as postgres, open_store(postgres.url) as store:
        async with running(Runner(store, log)):
            for kill in range(4):
                await poured(history, log, end * kill // 5, end * (kill + 1) // 5)
                await store.caught_up(end * kill // 5 + 7, SECONDS)
                postgres.kill()
                assert not await store.caught_up(end, 0.3)
                await postgres.start()
            await poured(history, log, end * 4 // 5, end)
            assert await store.caught_up(end, SECONDS)
        rows = await dump(store)
        assert rows == await folded_by_hand(postgres.url, history.records)


async def test_a_connection_cut_at_any_moment_loses_and_doubles_nothing(store: Store, database_url: str):
    history, log = many(20), MemoryLog()
    end = len(history.records)
    cut = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'callboard projector' AND pid <> pg_backend_pid()
    """
    async with running(Runner(store, log)):
        for number in range(10):
            await poured(history, log, end * number // 10, end * (number + 1) // 10)
            async with store.session() as session:
                await session.fetch(cut)
        assert await store.caught_up(end, SECONDS)
    assert await dump(store) == await folded_by_hand(database_url, history.records)


class CutOff(MemoryLog):
    """A log whose followers lose it after every few batches."""

    async def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
        for _ in range(3):
            if found := await self.page(scope, after=after, limit=40):
                yield found
                after = found[-1].seq
        raise LogUnavailable("the connection was lost")


async def test_a_log_that_goes_away_is_taken_up_again_where_it_was_left(store: Store, database_url: str):
    history, log = many(6), CutOff()
    await history.pour(log)
    async with running(Runner(store, log)):
        assert await store.caught_up(len(history.records), SECONDS)
    assert await dump(store) == await folded_by_hand(database_url, history.records)


async def test_a_log_that_ends_before_the_rows_is_refused(store: Store):
    history, log = many(2), MemoryLog()
    await project(store, history.records)
    await poured(history, log, 0, 5)
    with pytest.raises(LogRegressed, match=r"stand at \d+, but the log ends at 5.*rebuild-projections"):
        await Runner(store, log).run()


async def test_another_log_of_the_same_length_is_refused(store: Store):
    history, other, log = many(2), many(2, seed=2, workspaces=("x", "y")), MemoryLog()
    await project(store, history.records[:20])
    await poured(other, log, 0, 40)
    with pytest.raises(LogRegressed, match="holds another fact there"):
        await Runner(store, log).run()


async def test_after_a_rebuild_the_other_log_is_followed(store: Store):
    history, other, log = many(2), many(2, seed=2, workspaces=("x", "y")), MemoryLog()
    await project(store, history.records)
    await poured(other, log, 0, 40)
    await rebuild(store, log)
    async with running(Runner(store, log)):
        await poured(other, log, 40, len(other.records))
        assert await store.caught_up(len(other.records), SECONDS)


async def test_a_fact_that_cannot_be_folded_stops_the_runner_and_names_it(database_url: str):
    def refuse(record: Record):
        if record.seq == 5:
            raise ValueError("no")
        return ()

    refusing = msgspec.structs.replace(RUNS, project=refuse, handles=None)
    history, log = many(2), MemoryLog()
    await history.pour(log)
    async with open_store(database_url, (refusing,)) as store:
        with pytest.raises(FoldFailed, match=r"'runs' cannot fold fact 5"):
            await Runner(store, log).run()
        assert await store.position() == 0


async def test_a_fact_of_a_newer_engine_stops_the_runner_behind_the_last_it_knows(store: Store):
    history = many(2)

    class Newer(MemoryLog):
        async def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
            yield await self.page(scope, after=after, limit=5)
            raise UnknownFact("run.teleported.v1")

    log = Newer()
    await history.pour(log)
    with pytest.raises(UnknownFact, match=r"run\.teleported\.v1"):
        await Runner(store, log).run()
    assert await store.position() == 5


async def test_rows_of_another_version_are_refused_until_rebuilt(database_url: str):
    history, log = many(2), MemoryLog()
    await history.pour(log)
    async with open_store(database_url) as store:
        await project(store, history.records)
    newer = tuple(msgspec.structs.replace(each, version=99) if each is RUNS else each for each in READ_MODELS)
    async with open_store(database_url, newer) as store:
        with pytest.raises(VersionsDiffer, match="another version of runs"):
            await Runner(store, log).run()
        await rebuild(store, log)
        async with running(Runner(store, log)):
            assert await store.caught_up(len(history.records), SECONDS)
    async with open_store(database_url) as store:
        with pytest.raises(VersionsDiffer):
            await Runner(store, log).run()


async def test_a_rebuild_beside_a_running_projector_loses_nothing(store: Store, database_url: str):
    history, log = many(10), MemoryLog()
    end = len(history.records)
    await poured(history, log, 0, end // 3)
    async with running(Runner(store, log)):
        pouring = asyncio.create_task(poured(history, log, end // 3, end))
        for _ in range(3):
            await rebuild(store, log)
            found = await run(store, "default", "run_0")
            assert found is not None
        await pouring
        assert await store.caught_up(end, SECONDS)
    assert await dump(store) == await folded_by_hand(database_url, history.records)


class Gated(MemoryLog):
    """A log that does not tell its end until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def last(self, scope: str) -> int:
        self.asked.set()
        await self.open.wait()
        return await super().last(scope)


async def test_a_second_rebuild_meanwhile_is_refused(store: Store):
    log = Gated()
    first = asyncio.create_task(rebuild(store, log))
    await log.asked.wait()
    with pytest.raises(RebuildUnderway):
        await rebuild(store, log)
    log.open.set()
    assert await first == 0


async def test_a_rebuild_that_fails_leaves_the_rows_as_they_were(store: Store):
    history = many(2)
    await project(store, history.records)
    before = await dump(store)

    class Broken(MemoryLog):
        async def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
            yield await self.page(scope, after=after, limit=50)
            raise LogUnavailable("gone")

    log = Broken()
    await history.pour(log)
    with pytest.raises(LogUnavailable):
        await rebuild(store, log)
    assert await dump(store) == before
    assert await store.position() == len(history.records)
    async with store.session() as session:
        assert not await session.fetch("SELECT FROM pg_namespace WHERE nspname = 'callboard_rebuild'")
