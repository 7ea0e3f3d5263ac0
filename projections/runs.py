"""Runs: one row a run; the list and the detail read the same.

`ended`, `planned` and `started_at` are what the run's facts said; `status`, `waiting_on` and the counts of steps are
derived from them, from the steps and from who is asked. Usage and the last fact are read where they are kept.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from events.budget import BudgetAllotted, BudgetExhausted, BudgetGranted, BudgetRaised, Grant
from events.envelope import Record
from events.fact import Usage, Wait
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    Parent,
    PlanAccepted,
    RunCanceled,
    RunChildEnded,
    RunChildRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepSucceeded,
)
from events.tool import ApprovalDecided, ApprovalExpired, ApprovalRequested, ToolCanceled, ToolFailed
from projections import runs_sql
from projections.errors import InvalidQuery
from projections.pages import LIMIT_DEFAULT, SEQ_MAX, Page, check_limit, page, place
from projections.projection import Projection, Rows, Sql, Statement, as_json
from projections.usage import SUMS

STATUSES: Final = (
    "queued",
    "planning",
    "running",
    "needs_input",
    "waiting",
    "paused",
    "succeeded",
    "failed",
    "canceled",
    "timed_out",
)
QUERY_LETTERS_MAX: Final = 200
TIMED_OUT: Final = "timed_out"


class ParentRow(msgspec.Struct, frozen=True):
    """Who began a run from within another: the run, the place of its agent and the call; these are empty if a door did."""

    run: str
    step: str = ""
    call: str = ""


class ChildRow(msgspec.Struct, frozen=True):
    """A run under a run. `status` is empty until it ends; `step` and `call` say who began it, `wait` whether the call waits."""

    id: str
    goal: str
    step: str
    call: str
    wait: bool
    status: str


class PausedRow(msgspec.Struct, frozen=True):
    """By whom a run is paused, why, and since when."""

    by: str
    reason: str
    since: int


class RunRow(msgspec.Struct, frozen=True):
    """A run. `code` and `reason` tell why it failed or was canceled, `error_step` the key of the step that made it fail.

    `waiting_on` is every human who is asked now, every step that waits to be tried again, every run under it that a call
    waits for (or that is all there is to wait for), and a budget that is out; a
    `degraded` run succeeded without the steps `given_up`. Times are ms since the epoch; `last_seq` is its last fact's.
    """

    workspace: str
    id: str
    goal: str
    blueprint: str
    model: str
    labels: dict[str, str]
    by: str
    parent: ParentRow | None
    children: tuple[ChildRow, ...]
    status: str
    paused: PausedRow | None
    waiting_on: tuple[Wait, ...]
    code: str | None
    reason: str | None
    error_step: str | None
    summary: str | None
    degraded: bool
    given_up: tuple[str, ...]
    steps_total: int
    steps_done: int
    usage: Usage
    created_at: int
    started_at: int | None
    ended_at: int | None
    updated_at: int
    seq: int
    last_seq: int


def project(record: Record) -> list[Statement]:
    match record.fact:
        case RunRequested() as fact:
            return [_requested(record, fact), _one(record, runs_sql.SETTLE)]
        case RunStarted():
            return [_one(record, runs_sql.START, record.time_ms), _one(record, runs_sql.SETTLE)]
        case PlanAccepted():
            return [_one(record, runs_sql.PLAN), _one(record, runs_sql.SETTLE)]
        case BudgetExhausted():
            return [_one(record, runs_sql.OUT, record.time_ms), _one(record, runs_sql.SETTLE)]
        case BudgetGranted() | BudgetRaised() | BudgetAllotted() | StepStarted(grant=Grant()):
            return [_one(record, runs_sql.OUT, None), _one(record, runs_sql.SETTLE)]
        case RunChildRequested() as fact:
            return [_child(record, fact), _one(record, runs_sql.SETTLE)]
        case RunChildEnded(child=child, status=status):
            return [_one(record, runs_sql.CHILD_END, child, status), _one(record, runs_sql.SETTLE)]
        case RunPaused(by=by, reason=reason):
            paused = as_json(PausedRow(by=by, reason=reason, since=record.time_ms))
            return [_one(record, runs_sql.PAUSE, paused), _one(record, runs_sql.SETTLE)]
        case RunResumed():
            return [_one(record, runs_sql.PAUSE, None), _one(record, runs_sql.SETTLE)]
        case RunSucceeded() as fact:
            ended = _ended(record, "succeeded", summary=fact.summary, degraded=fact.degraded, given_up=fact.given_up)
            return [ended, _one(record, runs_sql.SETTLE)]
        case RunTimedOut(reason=reason):
            return [_ended(record, TIMED_OUT, code=TIMED_OUT, reason=reason), _one(record, runs_sql.SETTLE)]
        case RunFailed(code=code, reason=reason, step=step):
            status = TIMED_OUT if code == TIMED_OUT else "failed"
            return [_ended(record, status, code=code, reason=reason, step=step or None), _one(record, runs_sql.SETTLE)]
        case RunCanceled(by=by, reason=reason):
            return [
                _ended(record, "canceled", code="canceled", reason=reason or f"canceled by {by}"),
                _one(record, runs_sql.SETTLE),
            ]
        case _:
            return [_one(record, runs_sql.SETTLE)]


def _one(record: Record, sql: Sql, *more: object) -> Statement:
    at = record.address
    return Statement(sql, ("runs", at.workspace), (at.workspace, at.run, *more), at.run)


def _requested(record: Record, fact: RunRequested) -> Statement:
    what = (fact.goal, fact.blueprint, fact.model, as_json(fact.labels), fact.by, fact.plan is not None)
    parent = None if fact.parent is None else as_json(parent_row(fact.parent))
    return _one(record, runs_sql.REQUEST, record.seq, *what, parent, record.time_ms)


def parent_row(parent: Parent) -> ParentRow:
    """Return who began a run as its row has it."""
    return ParentRow(run=parent.run, step=parent.step, call=parent.call)


def _child(record: Record, fact: RunChildRequested) -> Statement:
    who = (fact.request.goal, fact.step, fact.call, fact.wait)
    return _one(record, runs_sql.CHILD, fact.child, record.seq, *who, record.time_ms)


def _ended(
    record: Record,
    status: str,
    *,
    code: str | None = None,
    reason: str | None = None,
    step: str | None = None,
    summary: str | None = None,
    degraded: bool = False,
    given_up: tuple[str, ...] = (),
) -> Statement:
    without = as_json(given_up)
    return _one(record, runs_sql.END, status, record.time_ms, code, reason, step, summary, degraded, without)


PROJECTION: Final = Projection(
    name="runs",
    version=6,
    tables=(runs_sql.RUNS, runs_sql.CHILDREN),
    project=project,
    handles=(
        RunRequested,
        RunStarted,
        PlanAccepted,
        StepStarted,
        StepSucceeded,
        StepConflicted,
        StepFailed,
        StepGivenUp,
        StepReopened,
        StepCanceled,
        GatePassed,
        GateFailed,
        GateWaived,
        GateReopened,
        RunChildRequested,
        RunChildEnded,
        RunPaused,
        RunResumed,
        BudgetExhausted,
        BudgetGranted,
        BudgetRaised,
        BudgetAllotted,
        RunSucceeded,
        RunFailed,
        RunCanceled,
        RunTimedOut,
        ApprovalRequested,
        ApprovalDecided,
        ApprovalExpired,
        ToolCanceled,
        ToolFailed,
    ),
)


async def runs(
    store: Rows,
    workspace: str,
    *,
    status: str | None = None,
    labels: Mapping[str, str] | None = None,
    blueprint: str | None = None,
    q: str | None = None,
    after: str | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Page[RunRow]:
    """Return runs, newest first: of a status, with all of some labels, of a blueprint, with `q` in the goal.

    Raises InvalidQuery.
    """
    _check(status, q)
    wanted = None if labels is None else as_json(labels)
    before = place(after) or SEQ_MAX
    asked = check_limit(limit) + 1
    rows = await store.rows(RunRow, _LIST, workspace, status, wanted, blueprint, q, before, asked)
    return page(rows, limit, [row.seq for row in rows])


def _check(status: str | None, q: str | None) -> None:
    if status is not None and status not in STATUSES:
        raise InvalidQuery("status", f"{status[:80]!r} must be one of {', '.join(STATUSES)}")
    if q is not None and (len(q) > QUERY_LETTERS_MAX or "\0" in q):
        raise InvalidQuery("q", f"{len(q)} letters; at most {QUERY_LETTERS_MAX}, and none of them NUL")


async def run(store: Rows, workspace: str, id_: str) -> RunRow | None:
    """Return one run."""
    return next(iter(await store.rows(RunRow, _GET, workspace, id_)), None)


# The page is made first: only its rows are looked up elsewhere.
_ROWS: Final = f"""
SELECT r.*, u.usage, c.children, t.seq AS last_seq, t.time AS updated_at
FROM page r
CROSS JOIN LATERAL (
    SELECT {SUMS} AS usage FROM usage o WHERE o.workspace = r.workspace AND o.run = r.id
) u
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', o.id, 'goal', o.goal, 'step', o.step, 'call', o.call, 'wait', o.wait, 'status', o.status
    ) ORDER BY o.seq), '[]') AS children
    FROM run_children o WHERE o.workspace = r.workspace AND o.run = r.id
) c
CROSS JOIN LATERAL (
    SELECT seq, time FROM timeline t
    WHERE t.workspace = r.workspace AND t.run = r.id ORDER BY t.seq DESC LIMIT 1
) t
ORDER BY r.seq DESC
"""  # noqa: S608 - of literals
_LIST: Final = f"""
WITH page AS MATERIALIZED (
    SELECT * FROM runs
    WHERE workspace = $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR labels @> $3::jsonb)
        AND ($4::text IS NULL OR blueprint = $4) AND ($5::text IS NULL OR strpos(lower(goal), lower($5)) > 0)
        AND seq < $6
    ORDER BY seq DESC LIMIT $7
)
{_ROWS}
"""  # noqa: S608 - of literals
_GET: Final = f"""
WITH page AS MATERIALIZED (SELECT * FROM runs WHERE workspace = $1 AND id = $2)
{_ROWS}
"""  # noqa: S608 - of literals
