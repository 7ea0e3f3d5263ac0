"""Records projected into a real Postgres: the whole fold, in batches of any size, without a log."""

from events.envelope import Record
from projections import position as positions
from projections.batch import fold_of
from projections.runner import advance
from projections.store import Store


async def project(store: Store, records: list[Record], *, batch: int = 1000) -> None:
    """Fold what is new of `records` into the store's rows, `batch` of them in one transaction."""
    fold = fold_of(store.projections)
    async with store.session() as session:
        at = await positions.read(session, store.projections)
        new = [record for record in records if record.seq > at.seq]
        for start in range(0, len(new), batch):
            at = await advance(session, fold, at, new[start : start + batch], projections=store.projections)
