"""A rebuild: the whole log folded anew beside the old tables, then put in their place in one transaction."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from events.envelope import Record
from events.log import Log
from events.subjects import EVERY_FACT
from projections import position as positions
from projections.ahead import Ahead, portions
from projections.batch import Group, fold_of
from projections.errors import DatabaseUnreachable, ProjectionError, RebuildUnderway
from projections.growth import Growth
from projections.install import create, register
from projections.migrations import try_lock
from projections.position import Position, position_of
from projections.projection import Projection, Sql
from projections.runner import apply
from projections.session import Session
from projections.store import Store

SCHEMA: Final = "callboard_rebuild"
REBUILDING: Final = 0x63620003
SWAPS_MAX: Final = 5

_DISCARD: Final = "DROP SCHEMA IF EXISTS callboard_rebuild CASCADE;"
_PREPARE: Final = _DISCARD + "CREATE SCHEMA callboard_rebuild;"
_SWAP: Final = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT unnest(tables) FROM callboard.position LOOP
        EXECUTE format('DROP TABLE IF EXISTS callboard.%I', name);
    END LOOP;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'callboard_rebuild' LOOP
        EXECUTE format('ALTER TABLE callboard_rebuild.%I SET SCHEMA callboard', name);
    END LOOP;
END $$;
"""

Progress = Callable[[int], None]


async def rebuild(store: Store, log: Log, *, progress: Progress = lambda _: None) -> int:
    """Fold the whole log anew and return the position it reached; `progress` hears the sequence after each batch.

    Queries and a running projector go on meanwhile. Raises RebuildUnderway, FoldFailed, StatementFailed,
    DatabaseUnreachable, LogUnavailable; then the old tables stay.
    """
    async with store.session(SCHEMA) as session:
        if not await try_lock(session, REBUILDING):
            raise RebuildUnderway
        try:
            return (await _Rebuild(session, log, store.projections).run(progress)).seq
        finally:
            with suppress(ProjectionError):
                await session.script(_DISCARD)


class _Rebuild:
    def __init__(self, session: Session, log: Log, projections: tuple[Projection, ...]) -> None:
        self._session = session
        self._log = log
        self._projections = projections
        self._fold = fold_of(projections)
        self._settling: dict[Sql, Group] = {}
        self._growth = Growth(projections)

    async def run(self, progress: Progress) -> Position:
        await self._session.script(_PREPARE)
        await create(self._session, self._projections)
        at = await self._fold_on(positions.START, progress)
        await self._growth.analyze(self._session)
        for left in range(SWAPS_MAX - 1, -1, -1):
            try:
                return await self._swap(at)
            except DatabaseUnreachable:
                # A reader of several tables may be in a deadlock with this, and Postgres may choose either.
                if not left:
                    raise
        raise AssertionError

    async def _fold_on(self, at: Position, progress: Progress) -> Position:
        """Fold what the log holds after `at`, up to its last fact now or some way beyond."""
        end = await self._log.last(EVERY_FACT)
        async with Ahead(self._log.follow(EVERY_FACT, after=at.seq)) as ahead:
            while at.seq < end:
                for portion in portions(await ahead.take(up_to=end)):
                    at = await self._fold_in(portion)
                    progress(at.seq)
        # Nobody reads these tables yet, so what is only derived waits for the end.
        await apply(self._session, self._settling.values())
        self._settling = {}
        return at

    async def _fold_in(self, records: list[Record]) -> Position:
        batch = self._fold.batch(records)
        async with self._session.transaction():
            await apply(self._session, batch.groups)
        await self._growth.by(len(records), self._session)
        for sql, group in batch.settling.items():
            self._settling.setdefault(sql, group).args.update(group.args)
        return position_of(records[-1])

    async def _swap(self, at: Position) -> Position:
        async with self._session.transaction():
            await self._session.fetch("SELECT seq FROM callboard.position FOR UPDATE")
            reached = await self._fold_on(at, lambda _: None)
            await self._session.script(_SWAP)
            await register(self._session, self._projections)
            await positions.write(self._session, reached)
        return reached


async def dump(store: Store) -> dict[str, list[str]]:
    """Return every row of every table as JSON, in the order of its key, to be compared."""
    found: dict[str, list[str]] = {}
    async with store.session() as session:
        for projection in store.projections:
            for table in projection.tables:
                order = ", ".join(table.key)
                sql = f"SELECT row_to_json(t)::text FROM {table.name} t ORDER BY {order}"  # noqa: S608 - of literals
                rows = await session.fetch(sql)
                found[table.name] = [str(row[0]) for row in rows]
    return found
