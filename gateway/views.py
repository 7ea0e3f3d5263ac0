"""What the doors show of runs and all in them: one shape each for HTTP, NATS and the CLI.

Times are RFC 3339 in UTC, durations milliseconds, money US dollars. `gateway.shown` makes them of rows.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import msgspec

from events import fact
from events.fact import Finding
from projections.pages import check_limit, page, place
from projections.steps import Edge

ENDED: Final = frozenset({"succeeded", "failed", "canceled", "timed_out"})
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


class Paused(msgspec.Struct, frozen=True):
    """By whom a run is paused, why, and since when."""

    by: str
    reason: str
    since: str


class Error(msgspec.Struct, frozen=True):
    """Why something failed: a stable code, words, and for a run the key of the step at fault."""

    code: str
    reason: str
    step: str = ""


class Parent(msgspec.Struct, frozen=True):
    """The run that a run was begun under, and by which agent's call; these are empty if a door began it."""

    run: str
    step: str
    call: str


class Child(msgspec.Struct, frozen=True):
    """A run under a run; its `status` is empty until it has ended."""

    id: str
    goal: str
    step: str
    call: str
    wait: bool
    status: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `seq` is its last fact in this view; `first_seq` the one that asked for it."""

    id: str
    workspace: str
    status: str
    paused: Paused | None
    goal: str
    blueprint: str
    model: str
    labels: dict[str, str]
    by: str
    parent: Parent | None
    children: list[Child]
    waiting_on: list[Waiting]
    error: Error | None
    summary: str | None
    degraded: bool
    given_up: tuple[str, ...]
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
    paused: Paused | None
    waiting_on: list[Waiting]
    error: Error | None
    degraded: bool
    given_up: tuple[str, ...]
    steps_total: int
    steps_done: int
    total_cost_usd: float
    updated_at: str
    seq: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run's plan; times are those of its last attempt. At `retry_at` it is tried again.

    A step that was given up is `skipped` and has an error.
    """

    run: str
    key: str
    id: str
    role: str
    title: str
    needs: tuple[str, ...]
    status: str
    gate: str
    attempt: int
    attempts_max: int
    fallback: bool
    retry_at: str | None
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


class BudgetLeft(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a budget limits: what attempts that ended used, what is held by those under way, what is left."""

    limit: int
    used: int
    reserved: int
    left: int


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A run's budget: money in millionths of a US dollar. `waits` says what it is out of and `hint` what would let it go on."""

    run: str
    limit: dict[str, int]
    parts: dict[str, BudgetLeft]
    until: str | None
    waits: str | None
    lacks: tuple[str, ...]
    waiting: tuple[str, ...]
    hint: str | None


class WorkspaceBudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace's budget: `runs` hold what is reserved, `waiting` stand in line for what is not there."""

    workspace: str
    limit: dict[str, int]
    parts: dict[str, BudgetLeft]
    runs: int
    waiting: tuple[str, ...]


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a run used, and its budget if it has one."""

    run: str
    group_by: str
    data: list[UsedBy]
    usage: Usage
    total_cost_usd: float
    turns: int
    budget: BudgetView | None = None


class Denial(msgspec.Struct, frozen=True):
    """A call that was not allowed to happen."""

    call: str
    tool: str
    step: str
    code: str
    reason: str


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """What a finished run came to: `is_error` is exactly `status != succeeded`.

    A `degraded` run succeeded without the steps `given_up`.
    """

    run_id: str
    status: str
    is_error: bool
    error: Error | None
    result: str | None
    degraded: bool
    given_up: tuple[str, ...]
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
