"""Runs as rows: what each status means, who is waited for, and how the list is asked."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.agent import FromBrief, ModelRequested, ModelResponded, Text
from events.budget import Budget, BudgetExhausted, BudgetRaised
from events.fact import Usage, Wait
from events.run import RunFailed, RunPaused, RunResumed, StepStarted
from projections.errors import InvalidQuery
from projections.runs import PausedRow, RunRow, run, runs
from projections.store import Store, open_store
from tests.history import TICK_MS, History
from tests.projected import project
from tests.stories import USED, Story, approval_of


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


async def row_of(store: Store, story: Story) -> RunRow:
    """Fold what the story told since the last time, and return its run."""
    await project(store, story.history.records)
    found = await run(store, story.history.address.workspace, story.history.address.run)
    assert found is not None
    return found


async def test_a_run_is_queued_then_running_then_succeeded(store: Store):
    story = Story(History())
    queued = await row_of(store, story)
    assert (queued.status, queued.steps_total, queued.steps_done, queued.started_at) == ("queued", 5, 0, None)
    assert (queued.goal, queued.blueprint, queued.labels, queued.by) == (
        "Build a small app",
        "software",
        {"team": "blue"},
        "ann",
    )
    story.start()
    assert (await row_of(store, story)).status == "running"
    story.begin("analyze")
    story.succeed("analyze")
    assert (await row_of(store, story)).steps_done == 1
    story.succeeded()
    ended = await row_of(store, story)
    assert (ended.status, ended.summary, ended.code) == ("succeeded", "all done", None)
    assert ended.ended_at == story.history.now_ms == ended.updated_at
    assert ended.last_seq == len(story.history.records)


async def test_a_run_without_a_plan_is_planning_until_one_is_accepted(store: Store):
    story = Story(History(), plan=None)
    story.start()
    story.begin("planner", "planner")
    planning = await row_of(store, story)
    assert (planning.status, planning.steps_total) == ("planning", 0)
    story.plan()
    planned = await row_of(store, story)
    assert (planned.status, planned.steps_total, planned.steps_done) == ("running", 5, 0)


async def test_a_run_is_paused_until_it_is_resumed_or_ends(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.history.run(RunPaused(by="ann", reason="lunch"))
    since = story.history.now_ms
    paused = await row_of(store, story)
    assert (paused.status, paused.paused) == ("paused", PausedRow("ann", "lunch", since))
    story.history.run(RunPaused(by="run_above", at=9))
    assert (await row_of(store, story)).paused == PausedRow("run_above", "", since)
    story.history.run(RunResumed(by="ann"))
    resumed = await row_of(store, story)
    assert (resumed.status, resumed.paused) == ("running", None)
    story.history.run(RunPaused(by="ann"))
    story.canceled()
    assert (await row_of(store, story)).status == "canceled"


async def test_a_run_out_of_budget_needs_input_since_then_until_it_is_raised(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.history.run(BudgetExhausted(lacks=("tokens",), keys=("backend",)))
    since = story.history.now_ms
    out = await row_of(store, story)
    assert (out.status, out.waiting_on) == ("needs_input", (Wait("budget", "run_1", since),))
    story.history.run(BudgetRaised(budget=Budget(tokens=9), by="ann"))
    raised = await row_of(store, story)
    assert (raised.status, raised.waiting_on) == ("running", ())
    story.history.run(BudgetExhausted(lacks=("tokens",), keys=("backend",)))
    story.canceled()
    ended = await row_of(store, story)
    assert (ended.status, ended.waiting_on) == ("canceled", ())


async def test_a_run_waits_when_every_open_step_waits_for_a_human(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.begin("frontend")
    asked = story.ask("backend")
    asked_ms = story.history.now_ms
    one = await row_of(store, story)
    assert one.status == "running"
    assert one.waiting_on == (Wait("approval", approval_of(asked), asked_ms),)
    question = story.ask("frontend", kind="question")
    both = await row_of(store, story)
    assert both.status == "waiting"
    assert both.waiting_on[1] == Wait("question", approval_of(question), asked_ms + 2 * TICK_MS)
    story.decide("backend", asked)
    again = await row_of(store, story)
    assert (again.status, [each.kind for each in again.waiting_on]) == ("running", ["question"])


async def test_an_expired_approval_is_waited_for_no_more(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    call = story.ask("backend")
    assert (await row_of(store, story)).status == "waiting"
    story.expire("backend", call)
    after = await row_of(store, story)
    assert (after.status, after.waiting_on) == ("running", ())


async def test_an_escalated_gate_needs_input_until_a_human_lets_it_be(store: Store):
    story = Story(History())
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.succeed(key)
    story.begin("review", "reviewer")
    call = story.escalate("review", "backend")
    asking = await row_of(store, story)
    assert (asking.status, [each.id for each in asking.waiting_on]) == ("needs_input", [approval_of(call)])
    story.decide("review", call, at="-")
    story.waive("review")
    waived = await row_of(store, story)
    assert (waived.status, waived.waiting_on, waived.steps_done) == ("running", (), 4)


async def test_a_reopened_gate_takes_its_rework_back_from_what_is_done(store: Store):
    story = Story(History())
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.succeed(key)
    story.begin("review", "reviewer")
    story.escalate("review", "backend", "frontend")
    story.reopen("review", "backend")
    reopened = await row_of(store, story)
    assert (reopened.status, reopened.steps_done) == ("running", 2)


async def test_a_canceled_run_says_by_whom_and_why_and_waits_for_nobody(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.ask("backend")
    story.cancel()
    story.canceled()
    ended = await row_of(store, story)
    assert (ended.status, ended.code, ended.reason) == ("canceled", "canceled", "changed my mind")
    assert ended.waiting_on == ()


async def test_a_failed_run_names_the_step_that_made_it_fail(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.fail("backend", final=True)
    story.failed("backend")
    ended = await row_of(store, story)
    assert (ended.status, ended.code, ended.reason, ended.error_step) == ("failed", "turns", "too many", "backend")


async def test_a_run_that_failed_for_its_time_is_timed_out(store: Store):
    story = Story(History())
    story.start()
    story.history.run(RunFailed(code="timed_out", reason="it took more than an hour"))
    assert (await row_of(store, story)).status == "timed_out"


async def test_usage_adds_up_as_it_happens(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.tick("backend", 1)
    story.fail_model("backend", 2)
    story.tick("backend", 2)
    usage = (await row_of(store, story)).usage
    assert usage == USED + USED + Usage(model_calls=1)


async def test_the_list_is_newest_first_and_pages_without_gap_or_repeat(store: Store):
    history = History("run_0")
    for number in range(7):
        Story(history if number == 0 else history.beside(f"run_{number}"))
    await project(store, history.records)
    found: list[str] = []
    after = None
    while True:
        page = await runs(store, "default", after=after, limit=3)
        found += [row.id for row in page.data]
        assert page.has_more == (page.next_cursor is not None)
        if page.next_cursor is None:
            break
        after = page.next_cursor
    assert found == [f"run_{number}" for number in range(6, -1, -1)]


async def test_the_list_is_filtered_by_status_label_blueprint_and_goal(store: Store):
    history = History("run_0")
    Story(history, goal="Write a 100% haiku")
    other = Story(history.beside("run_1"), goal="write_code", plan=None)
    other.start()
    await project(store, history.records)

    async def ids(**filters: Any) -> list[str]:
        return [row.id for row in (await runs(store, "default", **filters)).data]

    assert await ids(status="queued") == ["run_0"]
    assert await ids(status="planning") == ["run_1"]
    assert await ids(labels={"team": "blue"}) == ["run_1", "run_0"]
    assert await ids(labels={"team": "red"}) == []
    assert await ids(blueprint="software") == ["run_0"]
    assert await ids(q="WRITE") == ["run_1", "run_0"]
    assert await ids(q="0%") == ["run_0"]
    assert await ids(q="e_c") == ["run_1"]


async def test_a_workspace_sees_its_own_runs_only(store: Store):
    history = History("run_0", "ours")
    Story(history)
    Story(history.beside("run_0", "theirs"), goal="secret")
    await project(store, history.records)
    assert [row.goal for row in (await runs(store, "ours")).data] == ["Build a small app"]
    theirs = await run(store, "theirs", "run_0")
    assert theirs is not None
    assert theirs.goal == "secret"
    assert await run(store, "nobodys", "run_0") is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"after": "nonsense"}, "after"),
        ({"after": "é"}, "after"),
        ({"after": ""}, "after"),
        ({"status": "done"}, "status"),
        ({"q": "x" * 201}, "q"),
    ],
)
async def test_a_bad_argument_is_refused_by_its_name(store: Store, arguments: dict[str, Any], field: str):
    with pytest.raises(InvalidQuery) as refused:
        await runs(store, "default", **arguments)
    assert refused.value.field == field


async def test_text_that_postgres_cannot_hold_is_stored_without_its_nul(store: Store):
    story = Story(History(), goal="a\0b")
    story.start()
    actor = story.begin("backend")
    story.history.agent(actor, ModelRequested(turn=1, takes=(FromBrief(),)))
    story.history.agent(
        actor,
        ModelResponded(turn=1, epoch=1, content=(Text("\0"),), stop="end_turn", model="m\0", usage=Usage()),
    )
    story.history.run(
        StepStarted(step="stp_x", key="x", role="r\0", attempt=1, actor="stp_x", title="\0", conflicts=("\0",))
    )
    assert (await row_of(store, story)).goal == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_run_waits_on_the_timer_of_a_step_that_is_to_be_tried_again(store: Store):
    story = Story(History())
    story.start()
    actor = story.begin("analyze")
    story.fail("analyze", next_="retry", retry_ms=5_000)
    row = await row_of(store, story)
    assert row.status == "waiting"
    assert row.waiting_on == (Wait("timer", f"retry-{actor}", story.history.now_ms),)
    story.begin("analyze")
    row = await row_of(store, story)
    assert (row.status, row.waiting_on) == ("running", ())


async def test_a_run_that_asks_about_a_failed_step_needs_input(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    call = story.fail("analyze", next_="ask")
    row = await row_of(store, story)
    assert (row.status, [wait.id for wait in row.waiting_on]) == ("needs_input", [approval_of(call)])


async def test_a_degraded_run_names_what_it_went_on_without(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="degrade")
    story.give_up("analyze")
    story.succeeded("analyze")
    row = await row_of(store, story)
    assert (row.status, row.degraded, row.given_up, row.steps_done) == ("succeeded", True, ("analyze",), 0)


async def test_a_run_whose_time_was_over_is_timed_out_with_its_reason(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.timed_out()
    row = await row_of(store, story)
    assert (row.status, row.code) == ("timed_out", "timed_out")
    assert "run_seconds" in (row.reason or "")
    assert row.ended_at == story.history.now_ms
