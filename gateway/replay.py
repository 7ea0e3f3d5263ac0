"""Reading what the log had at a place, all of it: a replica that lags behind its leader is asked again."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from typing import Final

from events.envelope import Record
from events.log import BATCH_MAX, Log, LogUnavailable

LAGGING_SECONDS_MAX: Final = 5.0
AGAIN_SECONDS: Final = 0.005

_seq = attrgetter("seq")


async def replay(facts: Log, scope: str, *, after: int, upto: int) -> AsyncIterator[list[Record]]:
    """Yield the records of `scope` above `after` and up to `upto`, in batches; raises LogUnavailable."""
    last = await facts.last(scope)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LAGGING_SECONDS_MAX
    while after < min(last, upto):
        page = await facts.page(scope, after=after, limit=BATCH_MAX)
        if page:
            after, deadline = page[-1].seq, loop.time() + LAGGING_SECONDS_MAX
            yield [record for record in page if record.seq <= upto]
        elif loop.time() > deadline:
            raise LogUnavailable(f"a replica still lacks sequence {last}")
        else:
            await asyncio.sleep(AGAIN_SECONDS)


async def loaded(facts: Log, scope: str, *, upto: int) -> list[Record]:
    """Return all records of `scope` up to `upto`; raises LogUnavailable."""
    return [record async for batch in replay(facts, scope, after=0, upto=upto) for record in batch]


async def merged(facts: Log, scopes: Sequence[str], *, after: int, upto: int) -> AsyncIterator[list[Record]]:
    """Yield the records of several scopes that share none, in the order of the log; raises LogUnavailable."""
    if len(scopes) == 1:
        async for batch in replay(facts, scopes[0], after=after, upto=upto):
            yield batch
        return
    sources = [replay(facts, scope, after=after, upto=upto) for scope in scopes]
    pages = {index: await _next(source) for index, source in enumerate(sources)}
    while pages := {index: page for index, page in pages.items() if page}:
        bound = min(page[-1].seq for page in pages.values())
        ready = [[record for record in page if record.seq <= bound] for page in pages.values()]
        yield list(heapq.merge(*ready, key=_seq))
        for index, page in pages.items():
            rest = [record for record in page if record.seq > bound]
            pages[index] = rest or await _next(sources[index])


async def _next(source: AsyncIterator[list[Record]]) -> list[Record]:
    async for batch in source:
        return batch
    return []
