"""Dead letters: what could not be worked on, and what became of it. The message itself stands in the log."""

from typing import Final

import msgspec

from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed
from events.envelope import Record
from projections.errors import InvalidQuery
from projections.pages import LIMIT_DEFAULT, SEQ_MAX, Page, check_limit, page, place
from projections.projection import Projection, Rows, Sql, Statement, Table, as_json

STATUSES: Final = ("open", "replayed", "purged")
SOURCES: Final = ("command", "turn", "step", "timer", "delivery")


class DeadLetterRow(msgspec.Struct, frozen=True):
    """A dead letter. `step` is the step's key, `actor` the place of the attempt; empty is none.

    `way` and `made` tell what a replay did. Times are ms since the epoch; `seq` is of its last recording, `times` counts
    them, `died` is the sequence of the message or fact that died.
    """

    workspace: str
    id: str
    status: str
    source: str
    code: str
    reason: str
    address: str
    attempts: int
    run: str
    step: str
    actor: str
    role: str
    call: str
    subject: str
    by: str | None
    way: str | None
    made: tuple[str, ...]
    times: int
    recorded_at: int
    closed_at: int | None
    died: int
    seq: int


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters; None is any. `since` and `until` are ms since the epoch."""

    status: str | None = None
    source: str | None = None
    code: str | None = None
    run: str | None = None
    role: str | None = None
    since: int | None = None
    until: int | None = None

    def takes(self, row: DeadLetterRow) -> bool:
        """Tell whether a letter is one of these."""
        return (
            self.status in (None, row.status)
            and self.source in (None, row.source)
            and self.code in (None, row.code)
            and self.run in (None, row.run)
            and self.role in (None, row.role)
            and (self.since is None or row.recorded_at >= self.since)
            and (self.until is None or row.recorded_at < self.until)
        )


DEAD_LETTERS: Final = Table(
    name="dead_letters",
    key=("workspace", "id"),
    ddl="""
    CREATE TABLE dead_letters (
        workspace   text COLLATE "C" NOT NULL,
        id          text COLLATE "C" NOT NULL,
        status      text NOT NULL,
        source      text NOT NULL,
        code        text NOT NULL,
        reason      text NOT NULL,
        address     text NOT NULL,
        attempts    integer NOT NULL,
        run         text COLLATE "C" NOT NULL,
        step        text NOT NULL,
        actor       text NOT NULL,
        role        text NOT NULL,
        call        text NOT NULL,
        subject     text NOT NULL,
        by          text,
        way         text,
        made        jsonb NOT NULL DEFAULT '[]',
        times       integer NOT NULL DEFAULT 1,
        recorded_at bigint NOT NULL,
        closed_at   bigint,
        died        bigint NOT NULL,
        seq         bigint NOT NULL,
        PRIMARY KEY (workspace, id)
    );
    CREATE INDEX dead_letters_seq ON dead_letters (workspace, seq);
    CREATE INDEX dead_letters_status ON dead_letters (workspace, status, seq);
    """,
)

_RECORD: Final = Sql(
    name="dead_letters.record",
    text="""
    INSERT INTO dead_letters (
        workspace, id, status, source, code, reason, address, attempts, run, step, actor, role, call, subject, died,
        recorded_at, seq
    )
    SELECT
        workspace, id, 'open', source, code, reason, address, attempts, run, step, actor, role, call, subject, died,
        recorded_at, seq
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[]
    ) AS u (
        workspace, id, source, code, reason, address, attempts, run, step, actor, role, call, subject, died,
        recorded_at, seq
    )
    ON CONFLICT (workspace, id) DO UPDATE SET
        status = 'open', code = excluded.code, reason = excluded.reason, attempts = excluded.attempts,
        died = excluded.died, recorded_at = excluded.recorded_at, seq = excluded.seq,
        times = dead_letters.times + 1, by = NULL, way = NULL, made = '[]', closed_at = NULL
    """,
)

_CLOSE: Final = Sql(
    name="dead_letters.close",
    text="""
    UPDATE dead_letters d SET status = u.status, by = u.by, way = u.way, made = u.made::jsonb, closed_at = u.closed_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
        AS u (workspace, id, status, by, way, made, closed_at)
    WHERE d.workspace = u.workspace AND d.id = u.id
    """,
)


def project(record: Record) -> list[Statement]:
    match record.fact:
        case DeadLetterRecorded() as fact:
            return [_recorded(record, fact)]
        case DeadLetterReplayed(by=by, way=way, made=made):
            return [_statement(record, _CLOSE, "replayed", by, way, as_json(made), record.time_ms)]
        case DeadLetterPurged(by=by):
            return [_statement(record, _CLOSE, "purged", by, None, "[]", record.time_ms)]
        case _:
            return []


def _recorded(record: Record, fact: DeadLetterRecorded) -> Statement:
    what = (fact.source, fact.code, fact.reason, fact.address, fact.attempts)
    where = (fact.run, fact.key, fact.step, fact.role, fact.call, fact.message.subject if fact.message else "")
    return _statement(record, _RECORD, *what, *where, fact.seq, record.time_ms, record.seq)


def _statement(record: Record, sql: Sql, *more: object) -> Statement:
    at = record.address
    return Statement(sql, ("dead_letters", at.workspace), (at.workspace, at.step, *more), at.step)


PROJECTION: Final = Projection(
    name="dead_letters",
    version=1,
    tables=(DEAD_LETTERS,),
    project=project,
    handles=(DeadLetterRecorded, DeadLetterReplayed, DeadLetterPurged),
)


def check(wanted: LetterFilter) -> LetterFilter:
    """Return the filter; raises InvalidQuery for a word that no letter has."""
    for field, words in (("status", STATUSES), ("source", SOURCES)):
        value = getattr(wanted, field)
        if value is not None and value not in words:
            raise InvalidQuery(field, f"{value[:80]!r} must be one of {', '.join(words)}")
    return wanted


async def dead_letters(
    store: Rows, workspace: str, wanted: LetterFilter, *, after: str | None = None, limit: int = LIMIT_DEFAULT
) -> Page[DeadLetterRow]:
    """Return dead letters, newest first; raises InvalidQuery."""
    check(wanted)
    asked = (wanted.status, wanted.source, wanted.code, wanted.run, wanted.role, wanted.since, wanted.until)
    before = place(after) or SEQ_MAX
    rows = await store.rows(DeadLetterRow, _LIST, workspace, *asked, before, check_limit(limit) + 1)
    return page(rows, limit, [row.seq for row in rows])


_LIST: Final = """
SELECT * FROM dead_letters
WHERE workspace = $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR source = $3)
    AND ($4::text IS NULL OR code = $4) AND ($5::text IS NULL OR run = $5) AND ($6::text IS NULL OR role = $6)
    AND ($7::bigint IS NULL OR recorded_at >= $7) AND ($8::bigint IS NULL OR recorded_at < $8) AND seq < $9
ORDER BY seq DESC LIMIT $10
"""
