"""Growth: Postgres plans by what it last saw of a table, and ours grow a thousandfold before it looks by itself."""

from collections.abc import Sequence
from typing import Final

from projections.projection import Projection
from projections.session import Session

LOOK_AT: Final = tuple(1_000 * 4**power for power in range(7))


class Growth:
    """Counts what a session folded, and lets Postgres look at the tables where a plan may have become a bad one."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._tables = [table.name for projection in projections for table in projection.tables]
        self._folded = 0

    async def by(self, records: int, session: Session) -> None:
        """Count more records."""
        before, self._folded = self._folded, self._folded + records
        if any(before < mark <= self._folded for mark in LOOK_AT):
            await self.analyze(session)

    async def analyze(self, session: Session) -> None:
        """Take statistics of all tables; plans made by older ones are dropped."""
        for table in self._tables:
            await session.script(f"ANALYZE {table}")
