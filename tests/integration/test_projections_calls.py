"""Calls and approvals as rows."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from events.tool import (
    OUTCOME_SUFFIX,
    ApprovalDecided,
    ApprovalRequested,
    Decision,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolStarted,
)
from projections.approvals import ApprovalRow, approval, approvals
from projections.calls import CallRow, call, calls
from projections.store import Store, open_store
from tests.history import TICK_MS, History
from tests.projected import project
from tests.stories import Story, approval_of


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
def story() -> Story:
    told = Story(History())
    told.start()
    told.begin("backend")
    return told


async def call_of(store: Store, story: Story, id_: str) -> CallRow:
    await project(store, story.history.records)
    found = await call(store, "default", "run_1", id_)
    assert found is not None
    return found


async def approval_row(store: Store, story: Story, id_: str) -> ApprovalRow:
    await project(store, story.history.records)
    found = await approval(store, "default", approval_of(id_))
    assert found is not None
    return found


async def test_a_call_is_requested_then_completed_with_its_result(store: Store, story: Story):
    [made] = story.turn("backend", 1)
    row = await call_of(store, story, made)
    assert (row.status, row.tool, row.kind, row.role, row.step) == (
        "requested",
        "write_file",
        "tool_call",
        "backend",
        "backend",
    )
    assert row.attempt == story.actor_of("backend")
    assert msgspec.json.decode(row.arguments) == {"path": "a.py", "text": "print(1)"}
    story.complete("backend", made, "wrote a.py")
    done = await call_of(store, story, made)
    assert (done.status, done.result, done.result_bytes, done.duration_ms) == ("completed", "wrote a.py", 10, 12)
    assert done.ended_at == story.history.now_ms == done.requested_at + TICK_MS


async def test_a_long_result_is_cut_between_letters_and_tells_its_length(store: Store, story: Story):
    [made] = story.turn("backend", 1)
    story.complete("backend", made, "é" * 3000 + "x")
    row = await call_of(store, story, made)
    assert row.result == "é" * 2048
    assert row.result_bytes == 6001
    [odd] = story.turn("backend", 2)
    story.complete("backend", odd, "x" + "é" * 3000)
    assert (await call_of(store, story, odd)).result == "x" + "é" * 2047


async def test_an_unsafe_call_cut_off_in_the_middle_is_unknown_until_someone_tells(store: Store, story: Story):
    [made] = story.turn("backend", 1)
    at = story.actor_of("backend")
    story.history.call(at, made, ToolStarted(epoch=1))
    started = await call_of(store, story, made)
    assert (started.status, started.started_at) == ("running", story.history.now_ms)
    story.history.call(at, made, ToolOutcomeUnknown(epoch=1))
    assert (await call_of(store, story, made)).status == "outcome_unknown"
    story.history.call(at, made, ToolCompleted(epoch=1, text="it did happen"))
    assert (await call_of(store, story, made)).status == "completed"
    story.history.call(at, made, ToolRefused(epoch=1, reason="late"))
    assert (await call_of(store, story, made)).status == "completed"


async def test_the_list_of_calls_is_oldest_first_filtered_and_paged(store: Store, story: Story):
    made = story.tick("backend", 1, calls=5)
    story.begin("frontend")
    [other] = story.turn("frontend", 1)
    await project(store, story.history.records)
    first = await calls(store, "default", "run_1", step="backend", limit=3)
    second = await calls(store, "default", "run_1", step="backend", limit=3, after=first.next_cursor)
    assert [row.id for row in (*first.data, *second.data)] == made
    assert (first.has_more, second.has_more, second.next_cursor) == (True, False, None)
    waiting = await calls(store, "default", "run_1", status="requested")
    assert [row.id for row in waiting.data] == [other]
    assert (await calls(store, "other", "run_1")).data == []


async def test_an_approval_is_pending_with_all_a_human_must_know(store: Store, story: Story):
    made = story.ask("backend")
    row = await approval_row(store, story, made)
    assert (row.status, row.kind, row.tool, row.risk, row.call) == ("pending", "tool_call", "deploy", "high", made)
    assert (row.run, row.step, row.role, row.attempt) == ("run_1", "backend", "backend", story.actor_of("backend"))
    assert (row.allowed, row.expires_at, row.decided_at) == (("approve", "edit", "reject"), None, None)
    assert msgspec.json.decode(row.arguments) == {"where": "prod"}
    assert (await call_of(store, story, made)).status == "waiting"


@pytest.mark.parametrize(
    ("decision", "status", "of_call"),
    [("approve", "approved", "completed"), ("edit", "edited", "completed"), ("reject", "rejected", "failed")],
)
async def test_a_decision_tells_by_whom_and_what(
    store: Store, story: Story, decision: Decision, status: str, of_call: str
):
    made = story.ask("backend")
    story.decide("backend", made, decision)
    row = await approval_row(store, story, made)
    assert (row.status, row.by, row.comment) == (status, "bob", "fine")
    assert row.decided_at is not None
    assert msgspec.json.decode(row.edited) == ({"where": "test"} if decision == "edit" else None)
    assert (await call_of(store, story, made)).status == of_call


async def test_an_approval_that_nobody_decided_is_expired_or_canceled(store: Store, story: Story):
    late, dropped = story.ask("backend"), story.ask("backend")
    story.expire("backend", late)
    story.history.call(story.actor_of("backend"), dropped, ToolCanceled(by="ann"))
    assert (await approval_row(store, story, late)).status == "expired"
    assert (await approval_row(store, story, dropped)).status == "canceled"
    assert (await call_of(store, story, dropped)).reason == "canceled by ann"


async def test_what_became_of_a_call_is_a_question_of_its_own_beside_its_approval(store: Store, story: Story):
    made = story.ask("backend")
    at, first = story.actor_of("backend"), approval_of(made)
    story.history.call(at, made, ApprovalDecided(approval=first, decision="approve", by="bob"))
    story.history.call(at, made, ToolStarted(epoch=1))
    story.history.call(at, made, ToolOutcomeUnknown(epoch=1, asks="human"))
    second = f"{first}{OUTCOME_SUFFIX}"
    asked = ApprovalRequested(
        approval=second,
        kind="outcome",
        tool="deploy",
        arguments=msgspec.Raw(b"{}"),
        digest="d",
        allowed=("respond", "reject"),
    )
    story.history.call(at, made, asked)
    assert (await call_of(store, story, made)).status == "outcome_unknown"
    assert [(row.id, row.status) for row in (await approvals(store, "default")).data] == [
        (second, "pending"),
        (first, "approved"),
    ]
    story.history.call(at, made, ApprovalDecided(approval=second, decision="reject", by="ann", comment="no"))
    story.history.call(at, made, ToolFailed(epoch=1, code="not_done", reason="ann says so"))
    assert (await call_of(store, story, made)).status == "failed"
    assert [(row.id, row.status, row.by) for row in (await approvals(store, "default")).data] == [
        (second, "rejected", "ann"),
        (first, "approved", "bob"),
    ]


async def test_a_call_that_is_tried_again_says_so(store: Store, story: Story):
    [made] = story.turn("backend", 1)
    failed = ToolAttemptFailed(epoch=1, attempt=1, code="unavailable", reason="503", retry_at=1)
    story.history.call(story.actor_of("backend"), made, failed)
    assert (await call_of(store, story, made)).status == "retrying"


async def test_approvals_are_listed_newest_first_by_status_and_run(store: Store, story: Story):
    first, second, third = (story.ask("backend") for _ in range(3))
    story.decide("backend", second)
    other = Story(story.history.beside("run_2"))
    other.begin("backend")
    fourth = other.ask("backend")
    await project(store, story.history.records)

    async def asked(status: str | None = None, run: str | None = None) -> list[str]:
        return [row.call for row in (await approvals(store, "default", status=status, run=run)).data]

    assert await asked() == [fourth, third, second, first]
    assert await asked(status="pending") == [fourth, third, first]
    assert await asked(status="pending", run="run_1") == [third, first]
    page = await approvals(store, "default", limit=2)
    rest = await approvals(store, "default", limit=2, after=page.next_cursor)
    assert [row.call for row in (*page.data, *rest.data)] == [fourth, third, second, first]
    assert (await approvals(store, "other")).data == []
    assert await approval(store, "other", approval_of(first)) is None
