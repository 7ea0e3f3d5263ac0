"""The timeline: every fact as it stands in the log, to be paged by sequence."""

from collections.abc import Sequence
from typing import Final

import msgspec

from events.codec import TYPES
from events.envelope import Record
from projections.pages import LIMIT_DEFAULT, check_limit
from projections.projection import Copy, Projection, Rows, Statement, Table, raw_json


class TimelineRow(msgspec.Struct, frozen=True):
    """A fact: where (`step` is the attempt's place, `-` is none), what, when (ms since the epoch), what it came of."""

    seq: int
    workspace: str
    run: str
    step: str
    call: str
    to: str
    type: str
    time: int
    id: str
    causation: str
    body: msgspec.Raw


TIMELINE: Final = Table(
    name="timeline",
    key=("workspace", "seq"),
    ddl="""
    CREATE TABLE timeline (
        workspace text COLLATE "C" NOT NULL,
        seq       bigint NOT NULL,
        run       text COLLATE "C" NOT NULL,
        step      text COLLATE "C" NOT NULL,
        call      text COLLATE "C" NOT NULL,
        "to"      text NOT NULL,
        type      text COLLATE "C" NOT NULL,
        time      bigint NOT NULL,
        id        text COLLATE "C" NOT NULL,
        causation text NOT NULL,
        version   integer NOT NULL,
        body      json NOT NULL,
        PRIMARY KEY (workspace, seq)
    );
    CREATE INDEX timeline_run ON timeline (workspace, run, seq);
    """,
)

_ADD: Final = Copy(
    name="timeline.add",
    table=TIMELINE.name,
    columns=("workspace", "seq", "run", "step", "call", "to", "type", "time", "id", "causation", "version", "body"),
)


def project(record: Record) -> list[Statement]:
    at = record.address
    args = (
        at.workspace,
        record.seq,
        at.run,
        at.step,
        at.call,
        record.to,
        record.type,
        record.time_ms,
        record.id,
        record.causation,
        record.version,
        raw_json(record.body),
    )
    return [Statement(_ADD, ("timeline", at.workspace), args, record.seq)]


PROJECTION: Final = Projection(name="timeline", version=1, tables=(TIMELINE,), project=project)


async def timeline(
    store: Rows,
    workspace: str,
    *,
    run: str | None = None,
    after: int = 0,
    types: Sequence[str] = (),
    limit: int = LIMIT_DEFAULT,
) -> list[TimelineRow]:
    """Return facts in the order of the log: of a run or of all, of some types (`tool.completed`, with `.v1` or without)."""
    wanted = [each for each in TYPES if each in types or each.rpartition(".")[0] in types] if types else None
    if run is None:
        return await store.rows(TimelineRow, _OF_ALL, workspace, after, wanted, check_limit(limit))
    return await store.rows(TimelineRow, _OF_RUN, workspace, after, wanted, check_limit(limit), run)


async def event(store: Rows, workspace: str, seq: int) -> TimelineRow | None:
    """Return the fact at `seq`, if this workspace has it."""
    return next(iter(await store.rows(TimelineRow, _AT, workspace, seq)), None)


_COLUMNS: Final = 'SELECT seq, workspace, run, step, call, "to", type, time, id, causation, body FROM timeline '
_PAGE: Final = "AND seq > $2 AND ($3::text[] IS NULL OR type = ANY ($3)) ORDER BY seq LIMIT $4"
_OF_ALL: Final = _COLUMNS + "WHERE workspace = $1 " + _PAGE
_OF_RUN: Final = _COLUMNS + "WHERE workspace = $1 AND run = $5 " + _PAGE
_AT: Final = _COLUMNS + "WHERE workspace = $1 AND seq = $2"
