"""From rows of the read models to what the doors show: times written out, the error in one place, nothing left out."""

from collections.abc import Mapping, Sequence
from typing import Final

from events import fact
from events.envelope import rfc3339
from events.fact import Wait
from events.ids import trace_id
from gateway.views import (
    MICROS,
    Approval,
    Artifact,
    Child,
    Denial,
    Error,
    Parent,
    Paused,
    Result,
    Run,
    Status,
    Step,
    Used,
    UsedBy,
    Waiting,
    usage,
)
from projections.approvals import ApprovalRow
from projections.artifacts import ArtifactRow
from projections.calls import CallRow
from projections.runs import RunRow
from projections.steps import StepRow
from projections.usage import UsageRow

DENIED: Final = frozenset({"rejected", "not_allowed", "expired"})


def usd(used_: fact.Usage) -> float:
    """Return a usage's cost in US dollars."""
    return used_.cost_micros / MICROS


def run(row: RunRow) -> Run:
    """Return a run as it is shown."""
    return Run(
        id=row.id,
        workspace=row.workspace,
        status=row.status,
        paused=_paused(row),
        goal=row.goal,
        blueprint=row.blueprint,
        model=row.model,
        labels=row.labels,
        by=row.by,
        parent=Parent(row.parent.run, row.parent.step, row.parent.call) if row.parent else None,
        children=[Child(each.id, each.goal, each.step, each.call, each.wait, each.status) for each in row.children],
        waiting_on=waiting(row.waiting_on),
        error=error(row.code, row.reason, row.error_step),
        summary=row.summary,
        degraded=row.degraded,
        given_up=row.given_up,
        steps_total=row.steps_total,
        steps_done=row.steps_done,
        usage=usage(row.usage),
        total_cost_usd=usd(row.usage),
        trace_id=trace_id(row.id),
        created_at=rfc3339(row.created_at),
        started_at=at(row.started_at),
        ended_at=at(row.ended_at),
        updated_at=rfc3339(row.updated_at),
        duration_ms=(row.ended_at or row.updated_at) - row.created_at,
        first_seq=row.seq,
        seq=row.last_seq,
    )


def _paused(row: RunRow) -> Paused | None:
    if row.paused is None or row.status != "paused":  # a run that is canceled meanwhile is paused no more
        return None
    return Paused(row.paused.by, row.paused.reason, rfc3339(row.paused.since))


def status(view: Run) -> Status:
    """Return the short form of a run."""
    return Status(
        id=view.id,
        status=view.status,
        paused=view.paused,
        waiting_on=view.waiting_on,
        error=view.error,
        degraded=view.degraded,
        given_up=view.given_up,
        steps_total=view.steps_total,
        steps_done=view.steps_done,
        total_cost_usd=view.total_cost_usd,
        updated_at=view.updated_at,
        seq=view.seq,
    )


def step(row: StepRow) -> Step:
    """Return a step as it is shown."""
    return Step(
        run=row.run,
        key=row.key,
        id=row.id,
        role=row.role,
        title=row.title,
        needs=row.needs,
        status=row.status,
        gate=row.gate,
        attempt=row.attempt,
        attempts_max=row.attempts_max,
        fallback=row.fallback,
        retry_at=at(row.retry_at),
        actor=row.actor,
        model=row.model,
        summary=row.summary,
        error=error(row.code, row.reason, ""),
        findings=row.findings,
        usage=usage(row.usage),
        total_cost_usd=usd(row.usage),
        turns=row.turns,
        started_at=at(row.started_at),
        ended_at=at(row.ended_at),
        seq=row.seq,
    )


def approval(row: ApprovalRow) -> Approval:
    """Return an approval as it is shown."""
    return Approval(
        id=row.id,
        run=row.run,
        step=row.step,
        actor=row.attempt,
        call=row.call,
        role=row.role,
        kind=row.kind,
        tool=row.tool,
        arguments=row.arguments,
        digest=row.digest,
        risk=row.risk,
        allowed=row.allowed,
        status=row.status,
        by=row.by,
        comment=row.comment,
        edited=row.edited,
        requested_at=rfc3339(row.requested_at),
        decided_at=at(row.decided_at),
        expires_at=at(row.expires_at),
        seq=row.seq,
    )


def artifact(row: ArtifactRow) -> Artifact:
    """Return a version of an artifact as it is shown."""
    return Artifact(
        id=row.id,
        run=row.run,
        name=row.name,
        version=row.version,
        media_type=row.media_type,
        title=row.title,
        size=row.size,
        sha256=row.sha,
        step=row.step,
        attempt=row.attempt,
        created_at=rfc3339(row.created_at),
        content=f"/v1/artifacts/{row.id}/content",
        seq=row.seq,
    )


def used(run_id: str, group_by: str, rows: Sequence[UsageRow]) -> Used:
    """Return what a run used, and its sum."""
    total = sum((row.usage for row in rows), fact.Usage())
    return Used(
        run=run_id,
        group_by=group_by,
        data=[UsedBy(row.group, usage(row.usage), usd(row.usage), row.turns) for row in rows],
        usage=usage(total),
        total_cost_usd=usd(total),
        turns=sum(row.turns for row in rows),
    )


def result(view: Run, *, artifacts: Sequence[ArtifactRow], turns: int, failed: Sequence[CallRow]) -> Result:
    """Return what a finished run came to."""
    return Result(
        run_id=view.id,
        status=view.status,
        is_error=view.status != "succeeded",
        error=view.error,
        result=view.summary,
        degraded=view.degraded,
        given_up=view.given_up,
        artifacts=[artifact(row) for row in artifacts],
        num_turns=turns,
        duration_ms=view.duration_ms,
        usage=view.usage,
        total_cost_usd=view.total_cost_usd,
        denials=[
            Denial(row.id, row.tool, row.step, row.code or "", row.reason or "") for row in failed if row.code in DENIED
        ],
        seq=view.seq,
    )


def waiting(waits: Sequence[Wait]) -> list[Waiting]:
    """Return waits with their times written out."""
    return [Waiting(wait.kind, wait.id, rfc3339(wait.since)) for wait in waits]


def error(code: str | None, reason: str | None, step_key: str | None) -> Error | None:
    """Return an error, None if there is no code."""
    return Error(code, reason or "", step_key or "") if code else None


def at(time_ms: int | None) -> str | None:
    """Write a time that may be missing."""
    return None if time_ms is None else rfc3339(time_ms)


def label_pairs(labels: Sequence[str]) -> Mapping[str, str] | None:
    """Read labels as `name:value`; None for none. Raises ValueError naming the one that is not."""
    pairs: dict[str, str] = {}
    for label in labels:
        name, colon, value = label.partition(":")
        if not colon or not name:
            raise ValueError(f"{label[:80]!r} must be name:value")
        pairs[name] = value
    return pairs or None
