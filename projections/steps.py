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
    Carried,
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunFailed,
    RunRequested,
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
from projections import steps_sql
from projections.projection import Projection, Rows, Sql, Statement, as_json
from projections.usage import SUMS

AFTER_FAILURE: Final = {
    "retry": "pending",
    "fallback": "pending",
    "ask": "asking",
    "degrade": "given_up",
    "fail": "failed",
    "stop": "canceled",
}


class StepRow(msgspec.Struct, frozen=True):
    """A step. `status`: pending, ready, assigned, running, waiting, succeeded, failed, skipped, canceled.

    `gate` of a gate: pending, passed, failed, waived; of another step: empty. `actor` is the place of the attempt under
    way or the last, `id` is empty until the first. `attempts_max` is the number of the last attempt its role will have,
    `fallback` says that this is its second role, `retry_at` when it is tried again. Times are ms since the epoch and those of
    that attempt. `findings` are a gate's last verdict's, or what a step was sent back with. A step that was given up is
    skipped and has a `code`. `turns` are answered model calls of all attempts.
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
    attempts_max: int
    fallback: bool
    retry_at: int | None
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


class _Planned(msgspec.Struct, frozen=True):
    key: str
    position: int
    role: str
    title: str
    needs: tuple[str, ...]
    rework: tuple[str, ...]
    gate: str
    state: str = "pending"
    summary: str | None = None


def project(record: Record) -> list[Statement]:
    match record.fact:
        case RunRequested(plan=plan, carried=carried):
            return [*_planned(record, plan, carried), _settle(record)]
        case PlanAccepted(plan=plan, step=step):
            done = _one(record, steps_sql.PLANNED, step, step, record.time_ms, record.seq)
            return [done, *_planned(record, plan), _settle(record)]
        case StepStarted() as fact:
            return [_started(record, fact), _settle(record)]
        case AgentRequested(step=step, key=key, model=model):
            return [_one(record, steps_sql.MODEL, step, key, model)]
        case ModelRequested(turn=1, attempt=1) | AgentChecking(round=1):
            step = record.address.step.partition("-")[0]
            return [_one(record, steps_sql.RUN, step, step, record.seq), _settle(record)]
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
        case StepFailed() as fact:
            return [_failed(record, fact)]
        case StepGivenUp(step=step, key=key, code=code, reason=reason):
            return [_end(record, step, key, "given_up", code=code, reason=reason)]
        case StepReopened(step=step, key=key):
            return [_end(record, step, key, "pending")]
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
    return _all(record, steps_sql.SETTLE)


def _planned(record: Record, plan: Plan | None, carried: Carried | None = None) -> list[Statement]:
    if plan is None:
        return []
    done = {each.key: each.summary for each in carried.steps} if carried else {}
    rows = [_plan_step(place, step, done.get(step.id)) for place, step in enumerate(plan.steps)]
    return [_all(record, steps_sql.PLAN, as_json(rows), record.seq)]


def _plan_step(place: int, step: PlanStep, done: str | None) -> _Planned:
    """Return a step's row; `done` is the summary of one that was carried over from another run."""
    return _Planned(
        key=step.id,
        position=place,
        role=step.role,
        title=step.title or step.id,
        needs=step.needs,
        rework=step.gate.rework if step.gate else (),
        gate="" if not step.gate else "pending" if done is None else "passed",
        state="pending" if done is None else "succeeded",
        summary=done,
    )


def _started(record: Record, fact: StepStarted) -> Statement:
    who = (fact.key, fact.step, fact.role, fact.title or fact.key, fact.attempt, fact.actor)
    what = (record.time_ms, as_json(fact.findings), record.seq, fact.attempts_max, fact.fallback)
    return _one(record, steps_sql.START, fact.step, *who, *what)


def _failed(record: Record, fact: StepFailed) -> Statement:
    state = AFTER_FAILURE[fact.next or ("fail" if fact.final else "retry")]
    again = fact.retry_at or None
    return _end(record, fact.step, fact.key, state, code=fact.code, reason=fact.reason, retry_at=again)


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
    retry_at: int | None = None,
) -> Statement:
    findings = as_json(verdict.findings) if verdict else None
    said = verdict.summary if verdict else summary
    what = (code, reason, gate, said, findings, retry_at)
    return _one(record, steps_sql.END, step, key, state, record.time_ms, record.seq, *what)


def _send_back(record: Record, rework: tuple[str, ...]) -> Statement:
    return _all(record, steps_sql.SEND_BACK, as_json(rework), record.seq)


PROJECTION: Final = Projection(
    name="steps",
    version=3,
    tables=(steps_sql.STEPS,),
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
        StepGivenUp,
        StepReopened,
        StepCanceled,
        GatePassed,
        GateFailed,
        GateWaived,
        GateReopened,
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
