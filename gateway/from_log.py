"""Rows as the projections would have them, read from the log alone: for the snapshot of a stream, and while Postgres is away."""

from collections.abc import Sequence

import msgspec

from actors.decider import fold
from actors.run import OVER, RUN
from actors.run_retry import retry_timer, retrying
from actors.run_state import Child, RunState
from actors.tool import TOOL
from actors.tool_state import Asked, ToolState
from events.envelope import Record
from events.fact import Wait
from events.log import Log
from events.run import RunCanceled, RunFailed, RunStarted, RunSucceeded, RunTimedOut
from events.subjects import Address, name_scope
from events.tool import ApprovalDecided, ApprovalExpired, ApprovalRequested
from gateway.late import all_records
from gateway.replay import loaded
from gateway.tail import TERMINAL
from projections.approvals import STATUS, ApprovalRow
from projections.runs import TIMED_OUT, ChildRow, PausedRow, RunRow, parent_row


async def run_row(facts: Log, address: Address, *, upto: int) -> RunRow | None:
    """Return a run as the log had it at `upto`, None if it was not asked for by then. Raises LogError."""
    records = await loaded(facts, address.fence, upto=upto)
    if not records:
        return None
    state = fold(RUN, address, records)
    if state.request is None:
        return None  # purged but for its end; only the rows know what it was
    asked = [] if state.end is not None else await _asked(facts, address, upto=upto)
    return _row(state, records, asked)


async def approval_row(facts: Log, address: Address, approval: str) -> ApprovalRow | None:
    """Return an approval of the call at `address` as the log has it now, None if it has none. Raises LogError."""
    rows = _approvals(address, await all_records(facts, address.fence))
    return next((row for row in rows if row.id == approval), None)


async def _asked(facts: Log, address: Address, *, upto: int) -> list[ApprovalRow]:
    """Return the approvals of a run that waited at `upto`."""
    open_: set[Address] = set()
    for record in await loaded(facts, name_scope(address.workspace, run=address.run, name="approval.*"), upto=upto):
        (open_.add if isinstance(record.fact, ApprovalRequested) else open_.discard)(record.address)
    rows = [row for at in sorted(open_) for row in _approvals(at, await loaded(facts, at.fence, upto=upto))]
    return [row for row in rows if row.status == "pending"]


def _row(state: RunState, records: Sequence[Record], asked: Sequence[ApprovalRow]) -> RunRow:
    request = state.request
    assert request is not None, "a run's first fact is its request"
    first, last = records[0], records[-1]
    in_plan = [step for step in state.steps.values() if state.plan is not None]
    end = state.end
    return RunRow(
        workspace=state.address.workspace,
        id=state.address.run,
        goal=request.goal,
        blueprint=request.blueprint,
        model=request.model,
        labels=request.labels,
        by=request.by,
        parent=parent_row(request.parent) if request.parent else None,
        children=tuple(_child(child) for child in state.children.values()),
        status=_status(state, asked),
        paused=_paused(state),
        waiting_on=(*_waits(state, records, asked), *_waits_for_budget(state)),
        code=_code(state),
        reason=_reason(state),
        error_step=end.step or None if isinstance(end, RunFailed) else None,
        summary=end.summary if isinstance(end, RunSucceeded) else None,
        degraded=isinstance(end, RunSucceeded) and end.degraded,
        given_up=end.given_up if isinstance(end, RunSucceeded) else (),
        steps_total=len(in_plan),
        steps_done=sum(step.status == "done" for step in in_plan),
        usage=state.usage,
        created_at=first.time_ms,
        started_at=next((record.time_ms for record in records if isinstance(record.fact, RunStarted)), None),
        ended_at=next((record.time_ms for record in records if isinstance(record.fact, TERMINAL)), None),
        updated_at=last.time_ms,
        seq=first.seq,
        last_seq=last.seq,
    )


def _paused(state: RunState) -> PausedRow | None:
    if state.paused is None:
        return None
    return PausedRow(by=state.paused.by, reason=state.paused.reason, since=state.paused_ms)


def _status(state: RunState, asked: Sequence[ApprovalRow]) -> str:
    match state.end:
        case RunSucceeded():
            return "succeeded"
        case RunTimedOut():
            return TIMED_OUT
        case RunFailed(code=code):
            return TIMED_OUT if code == TIMED_OUT else "failed"
        case RunCanceled():
            return "canceled"
        case None:
            return _status_under_way(state, asked)


def _status_under_way(state: RunState, asked: Sequence[ApprovalRow]) -> str:
    waiting = {row.attempt for row in asked} | {child.step for child in state.open_children() if child.wait}
    open_ = [step.actor for step in state.open_steps()]
    if state.paused is not None:
        return "paused"
    if not state.started:
        return "queued"
    if _waits_for_budget(state) or any(step.status == "asking" for step in state.steps.values()):
        return "needs_input"
    if (open_ or retrying(state)) and waiting.issuperset(open_):
        return "waiting"
    if _waits_for_children(state):
        return "waiting"
    return "planning" if state.plan is None else "running"


def _waits_for_children(state: RunState) -> bool:
    """Whether the runs under a run are all that there is to wait for."""
    over = all(step.status in OVER for step in state.steps.values())
    return state.plan is not None and over and bool(state.open_children())


def _child(child: Child) -> ChildRow:
    return ChildRow(
        id=child.id, goal=child.request.goal, step=child.step, call=child.call, wait=child.wait, status=child.status
    )


def _code(state: RunState) -> str | None:
    match state.end:
        case RunFailed(code=code):
            return code
        case RunCanceled():
            return "canceled"
        case RunTimedOut():
            return TIMED_OUT
        case _:
            return None


def _waits_for_budget(state: RunState) -> list[Wait]:
    purse = state.purse
    if purse is None or purse.exhausted is None or state.end is not None:
        return []
    return [Wait("budget", state.address.run, purse.exhausted_ms)]


def _reason(state: RunState) -> str | None:
    match state.end:
        case RunFailed(reason=reason) | RunTimedOut(reason=reason):
            return reason
        case RunCanceled(by=by, reason=reason):
            return reason or f"canceled by {by}"
        case _:
            return None


def _waits(state: RunState, records: Sequence[Record], asked: Sequence[ApprovalRow]) -> tuple[Wait, ...]:
    """Return what a run waits on, in the order in which it came to that."""
    if state.end is not None:
        return ()
    times = {record.seq: record.time_ms for record in records}
    timers = [(step.failed_seq, Wait("timer", retry_timer(step), times[step.failed_seq])) for step in retrying(state)]
    children = [
        (child.asked, Wait("child", child.id, child.since_ms))
        for child in state.open_children()
        if child.wait or _waits_for_children(state)
    ]
    found = sorted([*timers, *children, *((row.seq, _wait(row)) for row in asked)], key=lambda each: each[0])
    return tuple(wait for _, wait in found)


def _wait(row: ApprovalRow) -> Wait:
    return Wait("question" if row.kind == "question" else "approval", row.id, row.requested_at)


def _approvals(address: Address, records: Sequence[Record]) -> list[ApprovalRow]:
    """Return what humans were asked about a call: whether it may run, and what became of it if it was cut off."""
    state: ToolState = fold(TOOL, address, list(records))
    return [_approval(address, state, asked, records=records) for asked in state.asked()]


def _approval(address: Address, state: ToolState, asked: Asked, *, records: Sequence[Record]) -> ApprovalRow:
    fact, decision = asked.request, asked.decision
    times = {record.seq: record.time_ms for record in records}
    closed = next(
        (
            record.time_ms
            for record in records
            if isinstance(record.fact, ApprovalDecided | ApprovalExpired) and record.fact.approval == fact.approval
        ),
        records[-1].time_ms if state.end else None,
    )
    return ApprovalRow(
        workspace=address.workspace,
        id=fact.approval,
        kind=fact.kind,
        run=address.run,
        step=fact.key,
        attempt=address.step,
        role=fact.role,
        call=address.call,
        tool=fact.tool,
        arguments=fact.arguments,
        digest=fact.digest,
        risk=fact.risk,
        allowed=fact.allowed,
        status=_approval_status(state, asked),
        by=decision.by if decision else None,
        comment=decision.comment if decision else None,
        edited=decision.arguments if decision and decision.decision == "edit" else msgspec.Raw(b"null"),
        requested_at=times[asked.seq],
        decided_at=closed,
        expires_at=fact.expires_at or None,
        seq=asked.seq,
    )


def _approval_status(state: ToolState, asked: Asked) -> str:
    if asked.decision is not None:
        return STATUS[asked.decision.decision]
    if asked.expired:
        return "expired"
    return "canceled" if state.end is not None else "pending"
