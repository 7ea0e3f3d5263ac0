"""What holds for every read model: the rows are a function of the log, however it came to them."""

from collections.abc import AsyncIterator

import pytest

from events.memory import MemoryLog
from projections.rebuild import dump, rebuild
from projections.store import Store, open_store
from tests.history import History
from tests.projected import project
from tests.stories import many


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def history() -> History:
    return many(12, seed=7)


@pytest.fixture
async def rows(store: Store, history: History) -> dict[str, list[str]]:
    """What one record a transaction gives."""
    await project(store, history.records, batch=1)
    return await dump(store)


async def test_every_table_gets_rows(rows: dict[str, list[str]]):
    assert [name for name, found in rows.items() if not found] == []


@pytest.mark.parametrize("batch", [7, 100, 100_000])
async def test_the_size_of_a_batch_changes_no_row(
    rows: dict[str, list[str]], history: History, store: Store, batch: int
):
    log = MemoryLog()
    await rebuild(store, log)
    await project(store, history.records, batch=batch)
    assert await dump(store) == rows


async def test_a_rebuild_gives_the_same_rows(rows: dict[str, list[str]], history: History, store: Store):
    log = MemoryLog()
    await history.pour(log)
    assert await rebuild(store, log) == len(history.records)
    assert await dump(store) == rows
    assert await store.position() == len(history.records)


async def test_another_seed_gives_the_same_rows_in_any_batches(store: Store):
    for seed in range(20, 24):
        history = many(6, seed=seed)
        await rebuild(store, MemoryLog())
        await project(store, history.records, batch=1)
        one_by_one = await dump(store)
        await rebuild(store, MemoryLog())
        await project(store, history.records, batch=len(history.records))
        assert await dump(store) == one_by_one, f"seed {seed}"
