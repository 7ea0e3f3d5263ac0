"""Reads of one actor that must not take a late replica's word that there is nothing: the log's leader is asked then."""

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
