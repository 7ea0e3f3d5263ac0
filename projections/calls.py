"""Calls: each tool call from its request to its end."""

from typing import Final

import msgspec

from events.envelope import Record
from events.tool import (
    OUTCOME_SUFFIX,
    ApprovalDecided,
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
)
from projections.pages import LIMIT_DEFAULT, Page, check_limit, page, place
from projections.projection import Projection, Rows, Sql, Statement, Table, raw_json

RESULT_BYTES_MAX: Final = 4096


class CallRow(msgspec.Struct, frozen=True):
    """A tool call. `status`: requested, waiting, running, retrying, completed, failed, canceled, outcome_unknown.

    `step` is the step's key, `attempt` the place of the agent that called. `result` is cut at 4 KiB; `result_bytes` tells
    how long it is in the log. Times are ms since the epoch.
    """

    workspace: str
    id: str
    run: str
    step: str
    attempt: str
    role: str
    tool: str
    kind: str
    arguments: msgspec.Raw
    status: str
    result: str | None
    result_bytes: int | None
    code: str | None
    reason: str | None
    requested_at: int
    started_at: int | None
    ended_at: int | None
    duration_ms: int | None
    seq: int


CALLS: Final = Table(
    name="calls",
    key=("workspace", "run", "id"),
    ddl="""
    CREATE TABLE calls (
        workspace    text COLLATE "C" NOT NULL,
        run          text COLLATE "C" NOT NULL,
        id           text COLLATE "C" NOT NULL,
        seq          bigint NOT NULL,
        attempt      text COLLATE "C" NOT NULL,
        step         text COLLATE "C" NOT NULL,
        role         text NOT NULL,
        tool         text NOT NULL,
        kind         text NOT NULL,
        arguments    json NOT NULL,
        status       text NOT NULL,
        result       text,
        result_bytes bigint,
        code         text,
        reason       text,
        requested_at bigint NOT NULL,
        started_at   bigint,
        ended_at     bigint,
        duration_ms  bigint,
        PRIMARY KEY (workspace, run, id)
    ) WITH (fillfactor = 70);
    CREATE INDEX calls_seq ON calls (workspace, run, seq);
    """,
)

_REQUEST: Final = Sql(
    name="calls.request",
    text="""
    INSERT INTO calls (workspace, run, id, seq, attempt, step, role, tool, kind, arguments, requested_at, status)
    SELECT workspace, run, id, seq, attempt, step, role, tool, kind, arguments::json, requested_at, 'requested'
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::bigint[]
    ) AS u (workspace, run, id, seq, attempt, step, role, tool, kind, arguments, requested_at)
    """,
)

_MOVE: Final = Sql(
    name="calls.move",
    text="""
    UPDATE calls c SET status = u.status, started_at = coalesce(c.started_at, u.started_at)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS u (workspace, run, id, status, started_at)
    WHERE c.workspace = u.workspace AND c.run = u.run AND c.id = u.id
    """,
)

_END: Final = Sql(
    name="calls.end",
    text="""
    UPDATE calls c SET
        status = u.status, result = u.result, result_bytes = u.result_bytes, code = u.code, reason = u.reason,
        ended_at = u.ended_at, duration_ms = u.duration_ms
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[],
        $10::bigint[]
    ) AS u (workspace, run, id, status, result, result_bytes, code, reason, ended_at, duration_ms)
    WHERE c.workspace = u.workspace AND c.run = u.run AND c.id = u.id
    """,
)


def project(record: Record) -> list[Statement]:
    match record.fact:
        case ToolRequested() as fact:
            return [_requested(record, fact)]
        case ApprovalRequested(kind=kind):
            return [] if kind == "outcome" else [_moved(record, "waiting")]
        case ApprovalDecided(approval=approval):
            return [] if approval.endswith(OUTCOME_SUFFIX) else [_moved(record, "requested")]
        case ToolAttemptFailed(probe=probe):
            return [] if probe else [_moved(record, "retrying")]
        case ToolStarted():
            return [_moved(record, "running", started=True)]
        case ToolOutcomeUnknown():
            return [_moved(record, "outcome_unknown")]
        case ToolCompleted() as fact:
            return [_ended(record, "completed", text=fact.text, duration_ms=fact.duration_ms)]
        case ToolFailed() as fact:
            return [_ended(record, "failed", code=fact.code, reason=fact.reason, duration_ms=fact.duration_ms)]
        case ToolCanceled() as fact:
            return [_ended(record, "canceled", code="canceled", reason=fact.reason or f"canceled by {fact.by}")]
        case _:
            return []


def _statement(record: Record, sql: Sql, *more: object) -> Statement:
    at = record.address
    return Statement(sql, ("calls", at.workspace, at.run), (at.workspace, at.run, at.call, *more), at.call)


def _requested(record: Record, fact: ToolRequested) -> Statement:
    what = (fact.key, fact.role, fact.tool, fact.kind, raw_json(fact.arguments))
    return _statement(record, _REQUEST, record.seq, record.address.step, *what, record.time_ms)


def _moved(record: Record, status: str, *, started: bool = False) -> Statement:
    return _statement(record, _MOVE, status, record.time_ms if started else None)


def _ended(
    record: Record,
    status: str,
    *,
    text: str | None = None,
    code: str | None = None,
    reason: str | None = None,
    duration_ms: int | None = None,
) -> Statement:
    result, size = (None, None) if text is None else cut(text)
    return _statement(record, _END, status, result, size, code, reason, record.time_ms, duration_ms)


def cut(text: str) -> tuple[str, int]:
    """Return what a row keeps of a result, at most RESULT_BYTES_MAX, and how many bytes all of it has."""
    data = text.encode()
    return data[:RESULT_BYTES_MAX].decode(errors="ignore"), len(data)


PROJECTION: Final = Projection(
    name="calls",
    version=2,
    tables=(CALLS,),
    project=project,
    handles=(
        ToolRequested,
        ApprovalRequested,
        ApprovalDecided,
        ToolStarted,
        ToolAttemptFailed,
        ToolOutcomeUnknown,
        ToolCompleted,
        ToolFailed,
        ToolCanceled,
    ),
)


async def calls(
    store: Rows,
    workspace: str,
    run: str,
    *,
    step: str | None = None,
    status: str | None = None,
    after: str | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Page[CallRow]:
    """Return a run's calls, or those of the step with key `step`, oldest first; raises InvalidQuery."""
    asked = check_limit(limit) + 1
    rows = await store.rows(CallRow, _LIST, workspace, run, step, status, place(after) or 0, asked)
    return page(rows, limit, [row.seq for row in rows])


async def call(store: Rows, workspace: str, run: str, id_: str) -> CallRow | None:
    """Return one call of a run."""
    return next(iter(await store.rows(CallRow, _GET, workspace, run, id_)), None)


_LIST: Final = """
SELECT * FROM calls
WHERE workspace = $1 AND run = $2 AND ($3::text IS NULL OR step = $3) AND ($4::text IS NULL OR status = $4) AND seq > $5
ORDER BY seq LIMIT $6
"""
_GET: Final = "SELECT * FROM calls WHERE workspace = $1 AND run = $2 AND id = $3"
