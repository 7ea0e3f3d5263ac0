"""The runner: follows the log and folds it into Postgres, rows and position in one transaction.

One runner works at a time, the others stand by. What cannot be reached is waited for; what cannot be folded stops it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from events.envelope import Record
from events.log import Log, LogUnavailable
from events.subjects import EVERY_FACT
from projections import position as positions
from projections.ahead import Ahead, portions
from projections.batch import Fold, Group, fold_of
from projections.errors import DatabaseUnreachable, LogRegressed, PositionMoved
from projections.growth import Growth
from projections.migrations import try_lock
from projections.position import Position, check_log, position_of
from projections.projection import Copy, Projection, Sql
from projections.session import Session
from projections.store import Store

PROJECTING: Final = 0x63620002
STANDBY_SECONDS: Final = 0.5
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
QUIET_SECONDS: Final = 30.0
"""After so long without a fact, is it still the same log?"""

_log = structlog.get_logger(__name__)


class Runner:
    """Keeps the read models of `store` up with `log`."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store = store
        self._log = log
        self._fold = fold_of(store.projections)
        self._tries = 0
        self._at = positions.START

    @property
    def position(self) -> int:
        """The sequence of the last fact that this runner folded or found folded."""
        return self._at.seq

    async def run(self) -> None:
        """Work until canceled. Raises RebuildNeeded, FoldFailed, StatementFailed, and what the log raises on a fact it
        cannot read; an absent Postgres or NATS is waited for."""
        while True:
            try:
                await self._work()
            except (DatabaseUnreachable, LogUnavailable, PositionMoved) as fault:
                await self._pause(fault)

    async def _work(self) -> None:
        async with self._store.session() as session:
            await _lead(session)
            self._at = await positions.read(session, self._store.projections)
            await check_log(self._log, self._at)
            _log.info("projector_following", position=self._at.seq)
            growth = Growth(self._store.projections)
            async with Ahead(self._log.follow(EVERY_FACT, after=self._at.seq)) as ahead:
                while True:
                    await self._take(session, ahead, growth)

    async def _take(self, session: Session, ahead: Ahead, growth: Growth) -> None:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                records = await ahead.take()
        except TimeoutError:
            await check_log(self._log, self._at)
            return
        for portion in portions(records):
            self._at = await advance(session, self._fold, self._at, portion, projections=self._store.projections)
            await growth.by(len(portion), session)
        self._tries = 0

    async def _pause(self, fault: Exception) -> None:
        seconds = RETRY_SECONDS[min(self._tries, len(RETRY_SECONDS) - 1)]
        self._tries += 1
        _log.warning("projector_waiting", reason=str(fault), seconds=seconds)
        await asyncio.sleep(seconds)


async def advance(
    session: Session, fold: Fold, at: Position, records: Sequence[Record], *, projections: Sequence[Projection]
) -> Position:
    """Fold records into the rows and move the position from `at` behind them, both or neither; return it.

    Raises PositionMoved if someone else moved it, LogRegressed, FoldFailed, StatementFailed, DatabaseUnreachable.
    """
    if records[0].seq <= at.seq:
        raise LogRegressed(at.seq, f"the log gave fact {records[0].seq} after it")
    batch = fold.batch(records)
    then = position_of(records[-1])
    async with session.transaction():
        found = await positions.read(session, projections, lock=True)
        if found != at:
            raise PositionMoved(at.seq, found.seq)
        await apply(session, batch.groups)
        await apply(session, batch.settling.values())
        await positions.write(session, then)
    return then


async def apply(session: Session, groups: Iterable[Group]) -> None:
    """Run groups of statements in their order."""
    for group in groups:
        match group.sql:
            case Sql(text=text, name=name):
                await session.execute(text, *group.columns(), name=name)
            case Copy(table=table, columns=columns, name=name):
                await session.copy(table, columns, group.rows(), name=name)


async def _lead(session: Session) -> None:
    standing_by = False
    while not await try_lock(session, PROJECTING):
        if not standing_by:
            _log.info("projector_standing_by")
        standing_by = True
        await asyncio.sleep(STANDBY_SECONDS)
