"""Reading ahead: while Postgres works on one batch the log is already read for the next."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from events.envelope import Record
from events.log import LogUnavailable

RECORDS_MAX: Final = 4000
BYTES_MAX: Final = 16 * 1024 * 1024
_DEPTH: Final = 8


class Ahead:
    """Reads batches in a task of its own, a few ahead; leaving it ends the task."""

    def __init__(self, batches: AsyncIterator[list[Record]]) -> None:
        self._batches = batches
        self._queue: asyncio.Queue[list[Record] | None] = asyncio.Queue(_DEPTH)
        self._fault: Exception | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read(), name="projector reads the log")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ):
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def take(self, *, up_to: int = 0) -> list[Record]:
        """Return all that is there, at least one record; below the sequence `up_to`, wait until RECORDS_MAX are.

        Raises what reading raised, LogUnavailable at the end.
        """
        records: list[Record] = []
        while not records or (len(records) < RECORDS_MAX and (not self._queue.empty() or records[-1].seq < up_to)):
            more = await self._queue.get()
            if more is None:
                self._queue.put_nowait(None)
                break
            records = records + more
        if not records:
            raise self._fault or LogUnavailable("the log stopped giving facts")
        return records

    async def _read(self) -> None:
        try:
            async for records in self._batches:
                if records:
                    await self._queue.put(records)
        except Exception as fault:  # noqa: BLE001 - the one who takes gets it
            self._fault = fault
        finally:
            # A generator left in the middle would keep its consumer.
            if close := getattr(self._batches, "aclose", None):
                await close()
        await self._queue.put(None)


def portions(records: list[Record]) -> list[list[Record]]:
    """Split records so that no part is above RECORDS_MAX or, but for a lone one, above BYTES_MAX of bodies."""
    parts: list[list[Record]] = [[]]
    size = 0
    for record in records:
        size += len(record.body)
        if parts[-1] and (len(parts[-1]) >= RECORDS_MAX or size > BYTES_MAX):
            parts.append([])
            size = len(record.body)
        parts[-1].append(record)
    return parts
