"""I2: the rows that the projector wrote through all faults are those that a rebuild from the log gives."""

import asyncio

from events.log import Log
from events.subjects import EVERY_FACT
from projections import position as positions
from projections.rebuild import dump, rebuild
from projections.store import Store, open_store
from tests.chaos.checker import Line

BEHIND_SECONDS_MAX = 60
NAME = "I2 projection = rebuilt projection"


async def compare(database_url: str, log: Log) -> Line:
    """Wait for the projector, rebuild, and compare row for row."""
    async with open_store(database_url) as store:
        end = await log.last(EVERY_FACT)
        if (at := await _caught_up(store, end)) < end:
            return Line(NAME, f"position {at}", (f"the projector is at {at} and the log at {end}",))
        before = await dump(store)
        await rebuild(store, log)
        after = await dump(store)
    broken: list[str] = []
    for table, rows in before.items():
        missing, extra = set(after[table]) - set(rows), set(rows) - set(after[table])
        broken += [f"{table}: rebuilt only: {row[:300]}" for row in sorted(missing)]
        broken += [f"{table}: before only: {row[:300]}" for row in sorted(extra)]
    return Line(NAME, f"{sum(map(len, before.values()))} rows in {len(before)} tables", tuple(broken))


async def _caught_up(store: Store, end: int) -> int:
    at = 0
    deadline = asyncio.get_running_loop().time() + BEHIND_SECONDS_MAX
    while at < end and asyncio.get_running_loop().time() < deadline:
        async with store.session() as session:
            at = (await positions.read(session, store.projections)).seq
        await asyncio.sleep(0.2)
    return at
