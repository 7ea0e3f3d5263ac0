"""Reading ahead: all that is there at once, in order, and what reading raised where it happened."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from events.envelope import Record
from events.log import LogUnavailable
from projections.ahead import BYTES_MAX, RECORDS_MAX, Ahead, portions
from tests.stories import many


async def given(*batches: list[Record], fault: Exception | None = None) -> AsyncIterator[list[Record]]:
    for batch in batches:
        yield batch
    if fault:
        raise fault


def seqs(records: list[Record]) -> list[int]:
    return [record.seq for record in records]


async def test_batches_come_joined_and_in_order():
    records = many(2).records[:20]
    async with Ahead(given(records[:3], [], records[3:10], records[10:])) as ahead:
        taken: list[int] = []
        while len(taken) < 20:
            taken += seqs(await ahead.take())
    assert taken == list(range(1, 21))


async def test_below_a_sequence_it_waits_for_more():
    records = many(2).records[:20]
    async with Ahead(given(records[:3], records[3:10], records[10:])) as ahead:
        assert seqs(await ahead.take(up_to=20)) == list(range(1, 21))


async def test_what_was_read_before_a_fault_comes_first_and_the_fault_again_and_again():
    records = many(2).records[:5]
    async with Ahead(given(records, fault=ValueError("broken"))) as ahead:
        assert seqs(await ahead.take(up_to=100)) == [1, 2, 3, 4, 5]
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                await ahead.take()


async def test_a_log_that_ends_is_unavailable():
    async with Ahead(given()) as ahead:
        with pytest.raises(LogUnavailable):
            await ahead.take()


async def test_leaving_closes_what_was_read_from():
    closed: list[bool] = []

    async def endless() -> AsyncIterator[list[Record]]:
        try:
            while True:
                yield many(1).records[:1]
        finally:
            closed.append(True)

    async with Ahead(endless()) as ahead:
        await ahead.take()
    assert closed == [True]


def test_portions_are_bounded_in_records_and_bytes():
    record = many(1).records[0]
    assert [len(part) for part in portions([record] * (RECORDS_MAX + 1))] == [RECORDS_MAX, 1]
    large = msgspec.structs.replace(record, body=b"x" * (BYTES_MAX // 2))
    huge = msgspec.structs.replace(record, body=b"x" * (BYTES_MAX + 1))
    assert [len(part) for part in portions([large, large, large, huge, record])] == [2, 1, 1, 1]
