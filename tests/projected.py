"""Records projected into a real Postgres: the whole fold, in batches of any size, without a log."""

from collections.abc import Sequence

from events.envelope import Record
from projections import position as positions
from projections.batch import fold_of
from projections.position import Position
from projections.runner import advance
from projections.store import Store


async def project(
    store: Store, records: Sequence[Record], *, batch: int = 1000, at: Position = positions.START
) -> Position:
    """Fold records into the store's rows, `batch` of them in one transaction; return the position behind them."""
    fold = fold_of(store.projections)
    async with store.session() as session:
        for start in range(0, len(records), batch):
            part = records[start : start + batch]
            at = await advance(session, fold, at, part, projections=store.projections)
    return at
