"""Steps as rows: from pending to done, attempts, gates and what they send back."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from events.fact import Artifact, File, Finding
from events.plan import Gate, Plan, PlanStep
from events.run import Carried, CarriedStep, RunRequested
from projections.artifacts import artifacts, files
from projections.runs import run
from projections.steps import Edge, StepRow, graph, step, steps
from projections.store import Store, open_store
from tests.history import TICK_MS, History
from tests.projected import project
from tests.stories import MODEL, USED, Story, sha


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


async def rows_of(store: Store, story: Story) -> dict[str, StepRow]:
    """Fold what the story told since the last time, and return its steps by key, in the order of the plan."""
    await project(store, story.history.records)
    found = await steps(store, story.history.address.workspace, story.history.address.run)
    return {row.key: row for row in found}


async def statuses(store: Store, story: Story) -> dict[str, str]:
    return {key: row.status for key, row in (await rows_of(store, story)).items()}


async def test_the_steps_of_a_plan_stand_in_its_order_before_anything_runs(store: Store):
    story = Story(History())
    assert await statuses(store, story) == {
        "analyze": "ready",
        "backend": "pending",
        "frontend": "pending",
        "review": "pending",
        "ship": "pending",
    }
    rows = await rows_of(store, story)
    assert (rows["analyze"].title, rows["backend"].title) == ("Requirements", "backend")
    assert (rows["review"].gate, rows["ship"].gate) == ("pending", "")
    assert rows["review"].needs == ("backend", "frontend")
    assert [row.id for row in rows.values()] == [""] * 5


async def test_an_attempt_is_assigned_then_running_then_done_with_its_usage(store: Store):
    story = Story(History())
    story.start()
    actor = story.begin("analyze", "analyst")
    assigned = (await rows_of(store, story))["analyze"]
    assert (assigned.status, assigned.attempt, assigned.actor, assigned.model) == ("assigned", 1, actor, MODEL)
    assert assigned.id == story.id_of("analyze")
    assert assigned.started_at == story.history.now_ms - TICK_MS
    story.tick("analyze", 1)
    story.tick("analyze", 2)
    assert (await rows_of(store, story))["analyze"].status == "running"
    story.succeed("analyze")
    done = (await rows_of(store, story))["analyze"]
    assert (done.status, done.summary, done.ended_at) == ("succeeded", "analyze is done", story.history.now_ms)
    assert (done.usage, done.turns) == (USED + USED, 2)
    assert await step(store, "default", "run_1", done.id) == done


async def test_steps_are_ready_once_all_they_need_is_done(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.succeed("analyze")
    story.begin("backend")
    found = await statuses(store, story)
    assert (found["backend"], found["frontend"], found["review"]) == ("assigned", "ready", "pending")


async def test_a_step_waits_while_a_human_is_asked_and_goes_on_after(store: Store):
    story = Story(History())
    story.start()
    story.begin("backend")
    story.turn("backend", 1, calls=0)
    call = story.ask("backend")
    assert (await statuses(store, story))["backend"] == "waiting"
    story.decide("backend", call)
    assert (await statuses(store, story))["backend"] == "running"


async def test_a_failed_attempt_is_tried_again_and_keeps_its_step(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.tick("analyze", 1)
    story.fail("analyze")
    failed = (await rows_of(store, story))["analyze"]
    assert (failed.status, failed.code, failed.reason) == ("ready", "turns", "too many")
    actor = story.begin("analyze")
    again = (await rows_of(store, story))["analyze"]
    assert (again.status, again.attempt, again.actor, again.code) == ("assigned", 2, actor, None)
    assert actor == f"{again.id}-2"
    story.tick("analyze", 1)
    assert (await rows_of(store, story))["analyze"].usage == USED + USED


async def test_a_conflict_opens_the_step_again_and_names_the_paths(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.conflict("analyze", "a.py", "b.py")
    row = (await rows_of(store, story))["analyze"]
    assert (row.status, row.code, row.reason) == ("ready", "conflict", "others changed a.py, b.py")


async def reviewed(store: Store) -> Story:
    story = Story(History())
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.succeed(key)
    story.begin("review", "reviewer")
    return story


async def test_a_gate_that_fails_sends_back_what_it_names_and_waits_for_it(store: Store):
    story = await reviewed(store)
    story.fail_gate("review", "backend")
    rows = await rows_of(store, story)
    assert {key: row.status for key, row in rows.items()} == {
        "analyze": "succeeded",
        "backend": "ready",
        "frontend": "succeeded",
        "review": "pending",
        "ship": "pending",
    }
    assert (rows["review"].gate, rows["review"].summary) == ("failed", "not yet")
    finding = Finding(step="backend", message="off by one", path="server/app.py", line=3)
    assert rows["review"].findings == (finding,)
    story.begin("backend", findings=(finding,))
    assert (await rows_of(store, story))["backend"].findings == (finding,)
    story.succeed("backend")
    story.begin("review", "reviewer")
    assert (await rows_of(store, story))["review"].gate == "pending"
    story.pass_gate("review")
    passed = await rows_of(store, story)
    assert (passed["review"].status, passed["review"].gate, passed["review"].findings) == ("succeeded", "passed", ())
    assert passed["ship"].status == "ready"


async def test_an_escalated_gate_waits_and_can_be_waived(store: Store):
    story = await reviewed(store)
    call = story.escalate("review", "backend")
    asked = (await rows_of(store, story))["review"]
    assert (asked.status, asked.gate) == ("waiting", "failed")
    story.decide("review", call, at="-")
    story.waive("review")
    waived = await rows_of(store, story)
    assert (waived["review"].status, waived["review"].gate, waived["ship"].status) == ("succeeded", "waived", "ready")


async def test_rework_opens_every_gate_behind_it_again_but_no_plain_step(store: Store):
    plan = Plan(
        steps=(
            PlanStep(id="code", role="backend", task="t"),
            PlanStep(id="lint", role="reviewer", task="t", needs=("code",), gate=Gate(rework=("code",))),
            PlanStep(id="docs", role="backend", task="t", needs=("lint",)),
            PlanStep(id="audit", role="reviewer", task="t", needs=("docs",), gate=Gate(rework=("code",))),
        )
    )
    story = Story(History(), plan=plan)
    story.start()
    story.begin("code")
    story.succeed("code")
    story.begin("lint")
    story.pass_gate("lint")
    story.begin("docs")
    story.succeed("docs")
    story.begin("audit")
    story.fail_gate("audit", "code")
    rows = await rows_of(store, story)
    assert {key: (row.status, row.gate) for key, row in rows.items()} == {
        "code": ("ready", ""),
        "lint": ("pending", "pending"),
        "docs": ("succeeded", ""),
        "audit": ("ready", "failed"),
    }


async def test_what_never_started_is_skipped_when_the_run_ends(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", final=True)
    story.failed("analyze")
    found = await statuses(store, story)
    assert list(found.values()) == ["failed", "skipped", "skipped", "skipped", "skipped"]


async def test_what_was_open_when_a_run_was_canceled_is_canceled(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.cancel()
    story.canceled()
    assert (await statuses(store, story))["analyze"] == "canceled"


async def test_a_planners_step_stands_before_the_plan_and_ends_with_it(store: Store):
    story = Story(History(), plan=None)
    story.start()
    story.begin("planner", "planner")
    assert await statuses(store, story) == {"planner": "assigned"}
    story.tick("planner", 1)
    story.plan()
    rows = await rows_of(store, story)
    assert list(rows) == ["planner", "analyze", "backend", "frontend", "review", "ship"]
    assert (rows["planner"].status, rows["planner"].turns, rows["analyze"].status) == ("succeeded", 1, "ready")


async def test_a_plan_may_call_a_step_planner(store: Store):
    story = Story(History(), plan=None)
    story.start()
    story.begin("planner", "planner")
    story.plan(Plan(steps=(PlanStep(id="planner", role="backend", task="t"),)))
    row = (await rows_of(store, story))["planner"]
    assert (row.role, row.status, row.position) == ("backend", "ready", 0)


async def test_the_graph_has_an_edge_for_each_need_and_each_way_back(store: Store):
    story = Story(History())
    await project(store, story.history.records)
    found = await graph(store, "default", "run_1")
    assert [node.key for node in found.nodes] == ["analyze", "backend", "frontend", "review", "ship"]
    assert found.edges == [
        Edge("analyze", "backend"),
        Edge("analyze", "frontend"),
        Edge("backend", "review"),
        Edge("frontend", "review"),
        Edge("review", "ship"),
        Edge("review", "backend", rework=True),
        Edge("review", "frontend", rework=True),
    ]


async def test_steps_of_another_workspace_are_not_seen(store: Store):
    history = History("run_1", "theirs")
    Story(history)
    await project(store, history.records)
    assert await steps(store, "ours", "run_1") == []


async def test_a_step_that_failed_for_good_is_opened_again(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze", "analyst")
    story.fail("analyze", final=True)
    assert (await statuses(store, story))["analyze"] == "failed"
    story.reopen_step("analyze")
    assert (await statuses(store, story))["analyze"] == "ready"


async def test_what_is_carried_over_is_done_and_its_files_and_artifacts_are_there(store: Store):
    story = Story(History())
    history = story.history.beside("run_2")
    first = story.history.records[0].fact
    assert isinstance(first, RunRequested)
    spec = Artifact(name="docs/spec.md", media_type="text/markdown", sha=sha("spec"), size=4)
    carried = Carried(
        run="run_1",
        seq=9,
        steps=(CarriedStep("analyze", "the spec stands"), CarriedStep("review", "good")),
        head={"docs/spec.md": File(sha("spec"), size=4)},
        artifacts=(spec,),
    )
    history.run(replace(first, carried=carried), to="run")
    await project(store, history.records)
    found = {row.key: row for row in await steps(store, "default", "run_2")}
    assert {key: row.status for key, row in found.items()} == {
        "analyze": "succeeded",
        "backend": "ready",
        "frontend": "ready",
        "review": "succeeded",
        "ship": "ready",
    }
    assert (found["analyze"].summary, found["analyze"].gate, found["review"].gate) == ("the spec stands", "", "passed")
    row = await run(store, "default", "run_2")
    assert row is not None
    assert (row.steps_done, row.steps_total) == (2, 5)
    assert [each.name for each in (await artifacts(store, "default", run="run_2")).data] == ["docs/spec.md"]
    assert [file.path for file in await files(store, "default", "run_2")] == ["docs/spec.md"]


async def test_a_step_that_waits_to_be_tried_again_says_until_when(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="retry", retry_ms=5_000)
    row = (await rows_of(store, story))["analyze"]
    assert (row.status, row.code) == ("waiting", "turns")
    assert row.retry_at == story.history.now_ms - TICK_MS + 5_000
    story.begin("analyze")
    row = (await rows_of(store, story))["analyze"]
    assert (row.status, row.retry_at) == ("assigned", None)


async def test_the_fallback_role_takes_the_steps_row_over(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="fallback")
    assert (await statuses(store, story))["analyze"] == "ready"
    actor = story.begin("analyze", "manager")
    row = (await rows_of(store, story))["analyze"]
    assert (row.role, row.attempt, row.actor) == ("manager", 2, actor)


async def test_a_step_given_up_is_skipped_with_its_fault_and_opens_the_way_for_the_next(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="degrade")
    story.give_up("analyze")
    rows = await rows_of(store, story)
    assert (rows["analyze"].status, rows["analyze"].code, rows["analyze"].reason) == ("skipped", "turns", "too many")
    assert (rows["backend"].status, rows["review"].status) == ("ready", "pending")


async def test_a_step_a_human_is_asked_about_waits_until_it_is_opened_again(store: Store):
    story = Story(History())
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="ask")
    assert (await statuses(store, story))["analyze"] == "waiting"
    story.reopen_step("analyze")
    assert (await statuses(store, story))["analyze"] == "ready"
