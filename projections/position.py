"""The position: the last fact in the rows, and which versions of the projections folded them. It moves with the rows."""

from collections.abc import Sequence
from typing import Final

import msgspec

from events.envelope import Record
from events.log import Log
from events.subjects import EVERY_FACT
from projections.errors import LogRegressed, VersionsDiffer
from projections.projection import Projection
from projections.session import Session


class Position(msgspec.Struct, frozen=True):
    """The place and the id of the last fact in the rows; 0 and empty before the first."""

    seq: int = 0
    fact: str = ""


START: Final = Position()

_READ: Final = "SELECT seq, fact, versions FROM callboard.position"
_ADVANCE: Final = """
UPDATE callboard.position SET seq = $1, fact = $2 RETURNING pg_notify('callboard_position', seq::text)
"""


def position_of(record: Record) -> Position:
    """Return the position behind `record`."""
    return Position(record.seq, record.id)


def versions_of(projections: Sequence[Projection]) -> dict[str, int]:
    """Return which versions these are."""
    return {projection.name: projection.version for projection in projections}


async def read(session: Session, projections: Sequence[Projection], *, lock: bool = False) -> Position:
    """Return the position, and keep it until the transaction ends if it is to be moved; raises VersionsDiffer."""
    rows = await session.fetch(_READ + " FOR UPDATE" if lock else _READ)
    seq, fact, theirs = rows[0]
    ours = versions_of(projections)
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        raise VersionsDiffer(", ".join(differing))
    return Position(seq, fact)


async def write(session: Session, position: Position) -> None:
    """Move the position, and tell those who listen when it is committed."""
    await session.execute(_ADVANCE, position.seq, position.fact)


async def check_log(log: Log, position: Position) -> None:
    """Raise LogRegressed unless the log holds the fact that the rows end with."""
    end = await log.end()
    if end < position.seq:
        raise LogRegressed(position.seq, f"the log ends at {end}")
    found = await log.page(EVERY_FACT, after=position.seq - 1, limit=1) if position.seq else []
    if found and found[0].seq == position.seq and found[0].id != position.fact:
        raise LogRegressed(position.seq, "the log holds another fact there")
