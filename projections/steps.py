"""Steps: how each step of a run's plan stands, in the order of the plan.

`state` is what the run's facts said last; `status` is derived from it, from the steps it needs, from who is asked and
from the end of the run.
"""

from typing import Final

import msgspec

from events.agent import AgentChecking, AgentRequested, ModelRequested
from events.envelope import Record
from events.fact import Finding, Usage, Verdict
from events.plan import Plan, PlanStep
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunFailed,
    RunRequested,
    RunSucceeded,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from events.tool import ApprovalDecided, ApprovalExpired, ApprovalRequested, ToolCanceled, ToolFailed
from projections.projection import Projection, Rows, Sql, Statement, Table, as_json
from projections.usage import SUMS


class StepRow(msgspec.Struct, frozen=True):
    """A step. `status`: pending, ready, assigned, running, waiting, succeeded, failed, skipped, canceled.

    `gate` of a gate: pending, passed, failed, waived; of another step: empty. `actor` is the place of the attempt under
    way or the last, `id` is empty until the first. Times are ms since the epoch and those of that attempt. `findings` are
    a gate's last verdict's, or what a step was sent back with. `turns` are answered model calls of all attempts.
    """

    workspace: str
    run: str
    key: str
    id: str
    position: int
    role: str
    title: str
    needs: tuple[str, ...]
    status: str
    gate: str
    attempt: int
    actor: str
    model: str
    started_at: int | None
    ended_at: int | None
    summary: str | None
    code: str | None
    reason: str | None
    findings: tuple[Finding, ...]
    usage: Usage
    turns: int
    seq: int


class Edge(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """`target` needs `source`; `rework` leads back from a gate to what it may send back."""

    source: str
    target: str
    rework: bool = False


class Graph(msgspec.Struct, frozen=True):
    """A run's plan as nodes and edges between their keys."""

    nodes: list[StepRow]
    edges: list[Edge]


STEPS: Final = Table(
    name="steps",
    key=("workspace", "run", "key"),
    ddl="""
    CREATE TABLE steps (
        workspace  text COLLATE "C" NOT NULL,
        run        text COLLATE "C" NOT NULL,
        key        text COLLATE "C" NOT NULL,
        id         text COLLATE "C" NOT NULL DEFAULT '',
        position   integer NOT NULL,
        role       text NOT NULL,
        title      text NOT NULL,
        needs      jsonb NOT NULL DEFAULT '[]',
        rework     jsonb NOT NULL DEFAULT '[]',
        state      text NOT NULL,
        status     text NOT NULL,
        gate       text NOT NULL,
        attempt    integer NOT NULL DEFAULT 0,
        actor      text COLLATE "C" NOT NULL DEFAULT '',
        model      text NOT NULL DEFAULT '',
        started_at bigint,
        ended_at   bigint,
        summary    text,
        code       text,
        reason     text,
        findings   jsonb NOT NULL DEFAULT '[]',
        seq        bigint NOT NULL,
        PRIMARY KEY (workspace, run, key)
    ) WITH (fillfactor = 70);
    CREATE INDEX steps_id ON steps (workspace, run, id);
    """,
)

# A plan may name a step as its planner's was named: the step in the plan is the one that counts.
_PLAN: Final = Sql(
    name="steps.plan",
    text="""
    INSERT INTO steps (workspace, run, key, position, role, title, needs, rework, gate, seq, state, status)
    SELECT u.workspace, u.run, s.key, s.position, s.role, s.title, s.needs, s.rework, s.gate, u.seq, 'pending', 'pending'
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, steps, seq)
    CROSS JOIN LATERAL jsonb_to_recordset(u.steps::jsonb)
        AS s (key text, position integer, role text, title text, needs jsonb, rework jsonb, gate text)
    ON CONFLICT (workspace, run, key) DO UPDATE SET
        id = '', position = excluded.position, role = excluded.role, title = excluded.title, needs = excluded.needs,
        rework = excluded.rework, gate = excluded.gate, state = 'pending', attempt = 0, actor = '', model = '',
        started_at = NULL, ended_at = NULL, seq = excluded.seq
    """,
)

# A planner's step is in no plan: it stands before all of them.
_START: Final = Sql(
    name="steps.start",
    text="""
    INSERT INTO steps AS s (
        workspace, run, key, id, role, title, attempt, actor, started_at, findings, seq, position, gate, state, status
    )
    SELECT
        workspace, run, key, id, role, title, attempt, actor, started_at, findings::jsonb, seq, -1, '', 'assigned',
        'assigned'
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
        $9::bigint[], $10::text[], $11::bigint[]
    ) AS u (workspace, run, key, id, role, title, attempt, actor, started_at, findings, seq)
    ON CONFLICT (workspace, run, key) DO UPDATE SET
        id = excluded.id, attempt = excluded.attempt, actor = excluded.actor, started_at = excluded.started_at,
        ended_at = NULL, state = 'assigned', code = NULL, reason = NULL, seq = excluded.seq,
        gate = CASE s.gate WHEN '' THEN '' ELSE 'pending' END,
        findings = CASE s.gate WHEN '' THEN excluded.findings ELSE s.findings END
    """,
)

_MODEL: Final = Sql(
    name="steps.model",
    text="""
    UPDATE steps s SET model = u.model
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (workspace, run, key, model)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.key = u.key
    """,
)

_RUN: Final = Sql(
    name="steps.run",
    text="""
    UPDATE steps s SET state = 'running', seq = u.seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, id, seq)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.id = u.id AND s.state = 'assigned'
    """,
)

_PLANNED: Final = Sql(
    name="steps.planned",
    text="""
    UPDATE steps s SET state = 'succeeded', ended_at = u.ended_at, seq = u.seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS u (workspace, run, id, ended_at, seq)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.id = u.id
    """,
)

_END: Final = Sql(
    name="steps.end",
    text="""
    UPDATE steps s SET
        state = u.state, ended_at = u.ended_at, seq = u.seq, code = u.code, reason = u.reason,
        gate = coalesce(u.gate, s.gate), summary = coalesce(u.summary, s.summary),
        findings = coalesce(u.findings::jsonb, s.findings)
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[]
    ) AS u (workspace, run, key, state, ended_at, seq, code, reason, gate, summary, findings)
    WHERE s.workspace = u.workspace AND s.run = u.run AND s.key = u.key
    """,
)

# What a gate sends back is open again, and so is every gate behind it: what passed it has changed.
_SEND_BACK: Final = Sql(
    name="steps.send_back",
    text="""
    WITH RECURSIVE sent (workspace, run, key, seq, named) AS (
        SELECT u.workspace COLLATE "C", u.run COLLATE "C", k.key COLLATE "C", u.seq, true
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u (workspace, run, keys, seq)
        CROSS JOIN LATERAL jsonb_array_elements_text(u.keys::jsonb) AS k (key)
        UNION
        SELECT sent.workspace, sent.run, s.key, sent.seq, false
        FROM sent JOIN steps s ON s.workspace = sent.workspace AND s.run = sent.run AND s.needs ? sent.key
    )
    UPDATE steps s SET
        state = 'pending', seq = sent.seq, gate = CASE s.gate WHEN 'passed' THEN 'pending' WHEN 'waived' THEN 'pending' ELSE s.gate END
    FROM (SELECT workspace, run, key, max(seq) AS seq, bool_or(named) AS named FROM sent GROUP BY 1, 2, 3) sent
    WHERE s.workspace = sent.workspace AND s.run = sent.run AND s.key = sent.key
        AND (sent.named OR (s.gate <> '' AND s.state = 'succeeded'))
    """,
)

_SETTLE: Final = Sql(
    name="steps.settle",
    settles=True,
    text="""
    UPDATE steps SET status = d.status
    FROM (
        SELECT s.workspace, s.run, s.key, CASE
            WHEN s.state = 'pending' AND r.ended <> '' THEN 'skipped'
            WHEN s.state IN ('assigned', 'running', 'asking') AND r.ended <> '' THEN 'canceled'
            WHEN s.state = 'pending' AND NOT EXISTS (
                SELECT FROM jsonb_array_elements_text(s.needs) AS n (key)
                JOIN steps o ON o.workspace = s.workspace AND o.run = s.run AND o.key = n.key
                WHERE o.state <> 'succeeded'
            ) THEN 'ready'
            WHEN s.state = 'asking' THEN 'waiting'
            WHEN s.state IN ('assigned', 'running') AND EXISTS (
                SELECT FROM approvals a
                WHERE a.workspace = s.workspace AND a.run = s.run AND a.attempt = s.actor AND a.decided_at IS NULL
            ) THEN 'waiting'
            ELSE s.state
        END AS status
        FROM unnest($1::text[], $2::text[]) AS u (workspace, run)
        JOIN runs r ON r.workspace = u.workspace AND r.id = u.run
        JOIN steps s ON s.workspace = u.workspace AND s.run = u.run
    ) d
    WHERE steps.workspace = d.workspace AND steps.run = d.run AND steps.key = d.key AND steps.status <> d.status
    """,
)


class _Planned(msgspec.Struct, frozen=True):
    key: str
    position: int
    role: str
    title: str
    needs: tuple[str, ...]
    rework: tuple[str, ...]
    gate: str


def project(record: Record) -> list[Statement]:
    match record.fact:
        case RunRequested(plan=plan):
            return [*_planned(record, plan), _settle(record)]
        case PlanAccepted(plan=plan, step=step):
            done = _one(record, _PLANNED, step, step, record.time_ms, record.seq)
            return [done, *_planned(record, plan), _settle(record)]
        case StepStarted() as fact:
            return [_started(record, fact), _settle(record)]
        case AgentRequested(step=step, key=key, model=model):
            return [_one(record, _MODEL, step, key, model)]
        case ModelRequested(turn=1, attempt=1) | AgentChecking(round=1):
            step = record.address.step.partition("-")[0]
            return [_one(record, _RUN, step, step, record.seq), _settle(record)]
        case ModelRequested() | AgentChecking():
            return []
        case _:
            return [*_ended(record), _settle(record)]


def _ended(record: Record) -> list[Statement]:
    match record.fact:
        case StepSucceeded(step=step, key=key, summary=summary):
            return [_end(record, step, key, "succeeded", summary=summary)]
        case StepConflicted(step=step, key=key, paths=paths):
            return [_end(record, step, key, "pending", code="conflict", reason=f"others changed {', '.join(paths)}")]
        case StepFailed(step=step, key=key, code=code, reason=reason, final=final):
            return [_end(record, step, key, "failed" if final else "pending", code=code, reason=reason)]
        case StepCanceled(step=step, key=key):
            return [_end(record, step, key, "canceled")]
        case GatePassed(step=step, key=key, verdict=verdict):
            return [_end(record, step, key, "succeeded", gate="passed", verdict=verdict)]
        case GateFailed(step=step, key=key, verdict=verdict, ask=ask, rework=rework):
            end = _end(record, step, key, "asking" if ask else "pending", gate="failed", verdict=verdict)
            return [end] if ask else [end, _send_back(record, rework)]
        case GateWaived(step=step, key=key):
            return [_end(record, step, key, "succeeded", gate="waived")]
        case GateReopened(step=step, key=key, rework=rework):
            return [_end(record, step, key, "pending", gate="pending"), _send_back(record, rework)]
        case _:
            return []


def _one(record: Record, sql: Sql, step: str, *more: object) -> Statement:
    """Touch the step with the id `step`: what touches it before it has one touches all steps of the run."""
    at = record.address
    return Statement(sql, ("steps", at.workspace, at.run), (at.workspace, at.run, *more), step)


def _all(record: Record, sql: Sql, *more: object) -> Statement:
    at = record.address
    return Statement(sql, ("steps", at.workspace, at.run), (at.workspace, at.run, *more))


def _settle(record: Record) -> Statement:
    return _all(record, _SETTLE)


def _planned(record: Record, plan: Plan | None) -> list[Statement]:
    if plan is None:
        return []
    rows = [_plan_step(place, step) for place, step in enumerate(plan.steps)]
    return [_all(record, _PLAN, as_json(rows), record.seq)]


def _plan_step(place: int, step: PlanStep) -> _Planned:
    return _Planned(
        key=step.id,
        position=place,
        role=step.role,
        title=step.title or step.id,
        needs=step.needs,
        rework=step.gate.rework if step.gate else (),
        gate="pending" if step.gate else "",
    )


def _started(record: Record, fact: StepStarted) -> Statement:
    who = (fact.key, fact.step, fact.role, fact.title or fact.key, fact.attempt, fact.actor)
    return _one(record, _START, fact.step, *who, record.time_ms, as_json(fact.findings), record.seq)


def _end(
    record: Record,
    step: str,
    key: str,
    state: str,
    *,
    code: str | None = None,
    reason: str | None = None,
    gate: str | None = None,
    summary: str | None = None,
    verdict: Verdict | None = None,
) -> Statement:
    findings = as_json(verdict.findings) if verdict else None
    said = verdict.summary if verdict else summary
    return _one(record, _END, step, key, state, record.time_ms, record.seq, code, reason, gate, said, findings)


def _send_back(record: Record, rework: tuple[str, ...]) -> Statement:
    return _all(record, _SEND_BACK, as_json(rework), record.seq)


PROJECTION: Final = Projection(
    name="steps",
    version=1,
    tables=(STEPS,),
    project=project,
    handles=(
        RunRequested,
        PlanAccepted,
        StepStarted,
        AgentRequested,
        ModelRequested,
        AgentChecking,
        StepSucceeded,
        StepConflicted,
        StepFailed,
        StepCanceled,
        GatePassed,
        GateFailed,
        GateWaived,
        GateReopened,
        RunSucceeded,
        RunFailed,
        RunCanceled,
        ApprovalRequested,
        ApprovalDecided,
        ApprovalExpired,
        ToolCanceled,
        ToolFailed,
    ),
)


async def steps(store: Rows, workspace: str, run: str) -> list[StepRow]:
    """Return a run's steps in the order of its plan."""
    return await store.rows(StepRow, _OF_RUN, workspace, run)


async def step(store: Rows, workspace: str, run: str, name: str) -> StepRow | None:
    """Return one step of a run, by its key or its id."""
    return next((each for each in await steps(store, workspace, run) if name in (each.key, each.id)), None)


async def graph(store: Rows, workspace: str, run: str) -> Graph:
    """Return a run's plan as a graph; a planner's step, which is in no plan, is left out."""
    nodes = [each for each in await steps(store, workspace, run) if each.position >= 0]
    back = await store.rows(_Rework, _REWORK, workspace, run)
    edges = [Edge(source=need, target=each.key) for each in nodes for need in each.needs]
    return Graph(
        nodes, edges + [Edge(source=each.key, target=key, rework=True) for each in back for key in each.rework]
    )


class _Rework(msgspec.Struct, frozen=True):
    key: str
    rework: tuple[str, ...]


_OF_RUN: Final = f"""
SELECT s.*, u.usage, u.turns
FROM steps s CROSS JOIN LATERAL (
    SELECT {SUMS} AS usage, coalesce(sum(o.turns), 0)::bigint AS turns
    FROM usage o WHERE o.workspace = s.workspace AND o.run = s.run AND o.step = s.id
) u
WHERE s.workspace = $1 AND s.run = $2
ORDER BY s.position, s.key
"""  # noqa: S608 - of literals
_REWORK: Final = """
SELECT key, rework FROM steps WHERE workspace = $1 AND run = $2 AND gate <> '' ORDER BY position
"""
