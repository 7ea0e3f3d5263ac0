"""Reads of one actor that must not take a late replica's word that there is nothing, or nothing more: the log's leader is asked.

Each read may be answered by another replica, so that what one has shown the next may lack.
"""

import asyncio
from typing import Final

from events.envelope import Record
from events.log import Log, LogUnavailable

REPLICA_SECONDS_MAX: Final = 5.0
AGAIN_SECONDS: Final = 0.01


async def last_record(facts: Log, scope: str) -> Record | None:
    """Return the last record of `scope`, None only if the leader has none either. Raises LogUnavailable."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REPLICA_SECONDS_MAX
    while (found := await facts.peek(scope)) is None:
        if not await facts.last(scope):
            return None
        if loop.time() > deadline:
            raise LogUnavailable("a replica still lacks what the log's leader has")
        await asyncio.sleep(AGAIN_SECONDS)
    return found


async def all_records(facts: Log, scope: str) -> list[Record]:
    """Return all records of `scope` up to the last that the leader has now. Raises LogUnavailable if replicas stay late."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REPLICA_SECONDS_MAX
    upto = await facts.last(scope)
    found: list[Record] = []
    while upto > (found[-1].seq if found else 0):
        more = await facts.load(scope, after=found[-1].seq if found else 0)
        found += more
        if not more:
            if loop.time() > deadline:
                raise LogUnavailable("a replica still lacks what the log's leader has")
            await asyncio.sleep(AGAIN_SECONDS)
    return found
