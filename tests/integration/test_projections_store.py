"""Opening the store: migrations, and every way in which Postgres is not there or not ours."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.postgres import Postgres
from projections.errors import DatabaseUnfit, DatabaseUnreachable, MigrationsRefused, StatementFailed
from projections.migrations import Migration, shipped
from projections.runs import run, runs
from projections.store import Store, open_store, target
from tests.chaos.faults import children, send
from tests.history import History
from tests.projected import project
from tests.stories import Story

EXTRA = Migration("9998_extra.sql", "CREATE TABLE callboard.extra (id integer);")


async def opened(url: str, *migrations: Migration) -> None:
    async with open_store(url, migrations=[*shipped(), *migrations]):
        return


async def tables(store: Store) -> Sequence[str]:
    async with store.session() as session:
        rows = await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'callboard' ORDER BY 1")
    return [str(row[0]) for row in rows]


async def test_opening_makes_everything_and_opening_again_changes_nothing(database_url: str):
    async with open_store(database_url) as store:
        Story(history := History())
        await project(store, history.records)
        before = await tables(store)
    async with open_store(database_url) as store:
        assert await tables(store) == before
        assert (await runs(store, "default")).data[0].id == "run_1"
        assert await store.position() == 1


async def test_two_processes_that_open_at_once_migrate_once(database_url: str):
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(opened(database_url, EXTRA))


async def test_a_new_migration_is_applied_to_an_old_database(database_url: str):
    await opened(database_url)
    await opened(database_url, EXTRA)
    async with open_store(database_url, migrations=[*shipped(), EXTRA]) as store:
        assert "extra" in await tables(store)


async def test_a_migration_that_fails_leaves_nothing_of_itself(database_url: str):
    broken = Migration("9999_broken.sql", "CREATE TABLE callboard.half (id integer); SELECT nonsense;")
    with pytest.raises(StatementFailed, match="nonsense"):
        await opened(database_url, broken)
    async with open_store(database_url) as store:
        assert "half" not in await tables(store)


async def test_an_edited_migration_is_refused(database_url: str):
    await opened(database_url, EXTRA)
    with pytest.raises(MigrationsRefused, match=r"9998_extra\.sql was edited after it was applied"):
        await opened(database_url, Migration(EXTRA.name, EXTRA.text + "-- better"))


async def test_a_missing_migration_is_refused(database_url: str):
    later = Migration("9999_later.sql", "SELECT 1;")
    await opened(database_url, EXTRA, later)
    with pytest.raises(MigrationsRefused, match=r"9998_extra\.sql was applied, but its file is missing"):
        await opened(database_url, later)


async def test_a_migration_put_between_applied_ones_is_refused(database_url: str):
    await opened(database_url, EXTRA)
    with pytest.raises(MigrationsRefused, match=r"9000_between\.sql comes before 9998_extra\.sql"):
        await opened(database_url, Migration("9000_between.sql", "SELECT 1;"), EXTRA)


async def test_a_database_of_a_newer_release_is_refused(database_url: str):
    await opened(database_url, EXTRA)
    with pytest.raises(MigrationsRefused, match=r"newer release \(9998_extra\.sql\)"):
        await opened(database_url)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://callboard:secret@127.0.0.1:1/callboard",
        "postgresql://callboard:secret@nowhere.invalid/callboard",
        "postgresql://callboard:secret@/callboard?host=/nonexistent",
    ],
)
async def test_an_unreachable_database_is_one_line_without_the_password(dsn: str):
    with pytest.raises(DatabaseUnreachable) as away:
        await opened(dsn)
    assert "\n" not in str(away.value)
    assert "secret" not in str(away.value)
    assert "CALLBOARD_DATABASE_URL" in str(away.value)


@pytest.mark.parametrize("dsn", ["nonsense", "postgresql://host:port/x", "mysql://localhost/x"])
async def test_a_dsn_that_is_none_is_refused(dsn: str):
    with pytest.raises(DatabaseUnfit):
        await opened(dsn)


async def test_a_database_that_does_not_exist_is_named(postgres: Postgres):
    with pytest.raises(DatabaseUnfit, match="no_such_database"):
        await opened(postgres.url_of("no_such_database"))


async def test_a_database_that_is_not_utf8_is_refused(postgres: Postgres, database_url: str):
    async with open_store(database_url) as store, store.session() as session:
        await session.script("CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
    with pytest.raises(DatabaseUnfit, match="not UTF8"):
        await opened(postgres.url_of("latin"))


@pytest.mark.parametrize(
    ("dsn", "where"),
    [
        ("postgresql://me:secret@db:5433/app", "db:5433, database app"),
        ("postgresql://me@/app?host=/run/pg", "/run/pg, database app"),
        ("postgresql://db", "db, database of the same name"),
    ],
)
def test_where_a_dsn_points_is_told_without_who(dsn: str, where: str):
    assert target(dsn) == where


async def test_a_query_is_answered_on_a_new_connection_when_the_old_ones_were_cut(database_url: str):
    async with open_store(database_url) as store:
        Story(history := History())
        await project(store, history.records)
        assert await run(store, "default", "run_1")
        async with store.session() as session:
            await session.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert await run(store, "default", "run_1")


async def test_a_server_that_hangs_is_away_before_its_reader_gives_up_and_is_read_again_when_it_goes_on(tmp_path: Path):
    async with Postgres(tmp_path) as server, open_store(server.url, read_seconds_max=0.5) as store:
        assert await store.position() == 0
        pids = [server.pid, *children(server.pid)]
        send(pids, signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                for _ in range(2):
                    with pytest.raises(DatabaseUnreachable, match=r"no answer within 0\.5 s"):
                        await runs(store, "default")
        finally:
            send(pids, signal.SIGCONT)
        while True:
            with suppress(DatabaseUnreachable):
                assert (await runs(store, "default")).data == []
                break
