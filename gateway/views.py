"""What the doors show of runs and all in them: rows of the read models with times as RFC 3339 and an error in one place.

One shape each for HTTP, NATS and the CLI. Money is US dollars, durations are milliseconds.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from events import fact
from events.envelope import rfc3339
from events.fact import Finding, Wait
from events.ids import trace_id
from projections.approvals import ApprovalRow
from projections.artifacts import ArtifactRow
from projections.calls import CallRow
from projections.pages import check_limit, page, place
from projections.runs import RunRow
from projections.steps import Edge, StepRow
from projections.usage import UsageRow

ENDED: Final = frozenset({"succeeded", "failed", "canceled", "timed_out"})
DENIED: Final = frozenset({"rejected", "not_allowed", "expired"})
MICROS: Final = 1_000_000


T = TypeVar("T")


class List(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list; `next_cursor`, given as `after`, gets what follows, null at the end."""

    data: Sequence[T]
    has_more: bool = False
    next_cursor: str | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and calls of models; the cost in millionths of a US dollar."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    model_calls: int
    cost_micros: int


class Waiting(msgspec.Struct, frozen=True):
    """What a run waits on: approval, question, timer, child, worker or budget; since when."""

    kind: str
    id: str
    since: str


class Error(msgspec.Struct, frozen=True):
    """Why something failed: a stable code, words, and for a run the key of the step at fault."""

    code: str
    reason: str
    step: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `seq` is its last fact in this view; `first_seq` the one that asked for it."""

    id: str
    workspace: str
    status: str
    goal: str
    blueprint: str
    model: str
    labels: dict[str, str]
    by: str
    waiting_on: list[Waiting]
    error: Error | None
    summary: str | None
    steps_total: int
    steps_done: int
    usage: Usage
    total_cost_usd: float
    trace_id: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    updated_at: str
    duration_ms: int
    first_seq: int
    seq: int

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands, in short."""

    id: str
    status: str
    waiting_on: list[Waiting]
    error: Error | None
    steps_total: int
    steps_done: int
    total_cost_usd: float
    updated_at: str
    seq: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run's plan; times are those of its last attempt."""

    run: str
    key: str
    id: str
    role: str
    title: str
    needs: tuple[str, ...]
    status: str
    gate: str
    attempt: int
    actor: str
    model: str
    summary: str | None
    error: Error | None
    findings: tuple[Finding, ...]
    usage: Usage
    total_cost_usd: float
    turns: int
    started_at: str | None
    ended_at: str | None
    seq: int


class Graph(msgspec.Struct, frozen=True):
    """A run's plan: steps and the edges between their keys; `rework` leads back from a gate."""

    nodes: list[Step]
    edges: list[Edge]


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a human; `digest` binds a decision to exactly this call."""

    id: str
    run: str
    step: str
    actor: str
    call: str
    role: str
    kind: str
    tool: str
    arguments: msgspec.Raw
    digest: str
    risk: str
    allowed: tuple[str, ...]
    status: str
    by: str | None
    comment: str | None
    edited: msgspec.Raw
    requested_at: str
    decided_at: str | None
    expires_at: str | None
    seq: int


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an artifact; its bytes are at `content`."""

    id: str
    run: str
    name: str
    version: int
    media_type: str
    title: str
    size: int
    sha256: str
    step: str
    attempt: int
    created_at: str
    content: str
    seq: int


class File(msgspec.Struct, frozen=True):
    """A file of a run; `mode` in octal."""

    path: str
    size: int
    mode: str
    sha256: str


class UsedBy(msgspec.Struct, frozen=True):
    """What was used under one value of what it is grouped by."""

    group: str
    usage: Usage
    total_cost_usd: float
    turns: int


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a run used."""

    run: str
    group_by: str
    data: list[UsedBy]
    usage: Usage
    total_cost_usd: float
    turns: int


class Denial(msgspec.Struct, frozen=True):
    """A call that was not allowed to happen."""

    call: str
    tool: str
    step: str
    code: str
    reason: str


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """What a finished run came to: `is_error` is exactly `status != succeeded`."""

    run_id: str
    status: str
    is_error: bool
    error: Error | None
    result: str | None
    artifacts: list[Artifact]
    num_turns: int
    duration_ms: int
    usage: Usage
    total_cost_usd: float
    denials: list[Denial]
    seq: int


def part(rows: Sequence[T], *, after: str | None, limit: int) -> List[T]:
    """Return a part of a list that is whole in memory; raises InvalidQuery."""
    start = place(after) or 0
    found = page(
        list(rows[start : start + check_limit(limit) + 1]), limit, [start + index + 1 for index in range(limit)]
    )
    return List(found.data, found.has_more, found.next_cursor)


def usd(used_: fact.Usage) -> float:
    """Return a usage's cost in US dollars."""
    return used_.cost_micros / MICROS


def usage(used_: fact.Usage) -> Usage:
    """Return a usage as it is shown, nothing left out."""
    return Usage(
        input_tokens=used_.input_tokens,
        output_tokens=used_.output_tokens,
        cache_read_tokens=used_.cache_read_tokens,
        cache_write_tokens=used_.cache_write_tokens,
        model_calls=used_.model_calls,
        cost_micros=used_.cost_micros,
    )


def run(row: RunRow) -> Run:
    """Return a run as it is shown."""
    return Run(
        id=row.id,
        workspace=row.workspace,
        status=row.status,
        goal=row.goal,
        blueprint=row.blueprint,
        model=row.model,
        labels=row.labels,
        by=row.by,
        waiting_on=waiting(row.waiting_on),
        error=error(row.code, row.reason, row.error_step),
        summary=row.summary,
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


def status(view: Run) -> Status:
    """Return the short form of a run."""
    return Status(
        id=view.id,
        status=view.status,
        waiting_on=view.waiting_on,
        error=view.error,
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
