"""Approvals: every question put to a human, by a risky call, a question tool or a gate, and what was decided."""

from typing import Final

import msgspec

from events.envelope import Record
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolCanceled,
    ToolFailed,
)
from projections.pages import LIMIT_DEFAULT, SEQ_MAX, Page, check_limit, page, place
from projections.projection import Projection, Rows, Sql, Statement, Table, as_json, raw_json

STATUS: Final = {"approve": "approved", "edit": "edited", "respond": "responded", "reject": "rejected"}


class ApprovalRow(msgspec.Struct, frozen=True):
    """A question to a human. `status`: pending, approved, rejected, edited, responded, expired, canceled.

    `step` is the step's key, `attempt` the place of the agent (`-`: the run itself asks). `edited` are the arguments as
    the human changed them, else null. Times are ms since the epoch; `expires_at` None is never.
    """

    workspace: str
    id: str
    kind: str
    run: str
    step: str
    attempt: str
    role: str
    call: str
    tool: str
    arguments: msgspec.Raw
    digest: str
    risk: str
    allowed: tuple[str, ...]
    status: str
    by: str | None
    comment: str | None
    edited: msgspec.Raw
    requested_at: int
    decided_at: int | None
    expires_at: int | None
    seq: int


APPROVALS: Final = Table(
    name="approvals",
    key=("workspace", "run", "call", "id"),
    ddl="""
    CREATE TABLE approvals (
        workspace    text COLLATE "C" NOT NULL,
        run          text COLLATE "C" NOT NULL,
        call         text COLLATE "C" NOT NULL,
        id           text COLLATE "C" NOT NULL,
        seq          bigint NOT NULL,
        kind         text NOT NULL,
        attempt      text COLLATE "C" NOT NULL,
        step         text COLLATE "C" NOT NULL,
        role         text NOT NULL,
        tool         text NOT NULL,
        arguments    json NOT NULL,
        digest       text NOT NULL,
        risk         text NOT NULL,
        allowed      jsonb NOT NULL,
        status       text NOT NULL,
        by           text,
        comment      text,
        edited       json NOT NULL DEFAULT 'null',
        requested_at bigint NOT NULL,
        decided_at   bigint,
        expires_at   bigint,
        PRIMARY KEY (workspace, run, call, id)
    );
    CREATE INDEX approvals_id ON approvals (workspace, id);
    CREATE INDEX approvals_seq ON approvals (workspace, seq);
    CREATE INDEX approvals_status ON approvals (workspace, status, seq);
    """,
)

_REQUEST: Final = Sql(
    name="approvals.request",
    text="""
    INSERT INTO approvals (
        workspace, run, call, id, seq, kind, attempt, step, role, tool, arguments, digest, risk, allowed, status,
        requested_at, expires_at
    )
    SELECT
        workspace, run, call, id, seq, kind, attempt, step, role, tool, arguments::json, digest, risk, allowed::jsonb,
        'pending', requested_at, expires_at
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::bigint[]
    ) AS u (
        workspace, run, call, id, seq, kind, attempt, step, role, tool, arguments, digest, risk, allowed, requested_at,
        expires_at
    )
    """,
)

_END: Final = Sql(
    name="approvals.end",
    text="""
    UPDATE approvals a SET
        status = u.status, by = u.by, comment = u.comment, edited = u.edited::json, decided_at = u.decided_at
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[]
    ) AS u (workspace, run, call, status, by, comment, edited, decided_at)
    WHERE a.workspace = u.workspace AND a.run = u.run AND a.call = u.call AND a.decided_at IS NULL
    """,
)


def project(record: Record) -> list[Statement]:
    match record.fact:
        case ApprovalRequested() as fact:
            return [_requested(record, fact)]
        case ApprovalDecided() as fact:
            edited = raw_json(fact.arguments) if fact.decision == "edit" else "null"
            return [_ended(record, STATUS[fact.decision], fact.by, comment=fact.comment, edited=edited)]
        case ApprovalExpired():
            return [_ended(record, "expired")]
        case ToolCanceled() | ToolFailed():
            return [_ended(record, "canceled")]
        case _:
            return []


def _statement(record: Record, sql: Sql, *more: object) -> Statement:
    at = record.address
    return Statement(sql, ("approvals", at.workspace, at.run), (at.workspace, at.run, at.call, *more), at.call)


def _requested(record: Record, fact: ApprovalRequested) -> Statement:
    who = (fact.approval, record.seq, fact.kind, record.address.step, fact.key, fact.role)
    what = (fact.tool, raw_json(fact.arguments), fact.digest, fact.risk, as_json(fact.allowed))
    return _statement(record, _REQUEST, *who, *what, record.time_ms, fact.expires_at or None)


def _ended(
    record: Record, status: str, by: str | None = None, *, comment: str | None = None, edited: str = "null"
) -> Statement:
    return _statement(record, _END, status, by, comment, edited, record.time_ms)


PROJECTION: Final = Projection(
    name="approvals",
    version=2,
    tables=(APPROVALS,),
    project=project,
    handles=(ApprovalRequested, ApprovalDecided, ApprovalExpired, ToolCanceled, ToolFailed),
)


async def approvals(
    store: Rows,
    workspace: str,
    *,
    status: str | None = None,
    run: str | None = None,
    after: str | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Page[ApprovalRow]:
    """Return approvals, newest first; raises InvalidQuery."""
    before = place(after) or SEQ_MAX
    rows = await store.rows(ApprovalRow, _LIST, workspace, status, run, before, check_limit(limit) + 1)
    return page(rows, limit, [row.seq for row in rows])


async def approval(store: Rows, workspace: str, id_: str) -> ApprovalRow | None:
    """Return one approval by its id."""
    return next(iter(await store.rows(ApprovalRow, _GET, workspace, id_)), None)


_LIST: Final = """
SELECT * FROM approvals
WHERE workspace = $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR run = $3) AND seq < $4
ORDER BY seq DESC LIMIT $5
"""
_GET: Final = "SELECT * FROM approvals WHERE workspace = $1 AND id = $2 ORDER BY seq DESC LIMIT 1"
