"""Runs under runs: wanted within limits, told to stop with the run above or when nobody can take their result, told of once."""

from typing import Any

import pytest

from actors.child import ChildDone, Outcome, outcome_of
from actors.decider import Cancel, Pause, Refused, Schedule, Send, TimerFired
from actors.run import CANCEL_GRACE_MS, CANCEL_TIMER, RUN, StartRun
from actors.run_budget import RaiseBudget
from actors.run_children import Spawn, child_id
from actors.tool import TOOL
from actors.tool_outcome import ToolReturned
from actors.workspace_budget import ReserveBudget, ReturnBudget
from events.agent import AgentCanceled, AgentFailed, FromChild, ModelRequested
from events.budget import Amount, Budget, Grant
from events.fact import Changes, File
from events.plan import Plan
from events.run import Limits, Parent, RunRequested
from events.subjects import Address
from events.tool import ToolCompleted, ToolFailed, ToolRequested
from tests.unit.actors.scenario import AGENT, CALL, NOW, Scenario, names, raw
from tests.unit.actors.scenario import RUN as ADDRESS
from tests.unit.actors.test_agent import answer, begun, create
from tests.unit.actors.test_run import ROLES, done, run, step
from tests.unit.actors.test_run import end as end_step

HERE = Parent(run="run_a", depth=1, step="stp_a", call="call_a")


def request(depth: int = 1, **more: Any) -> RunRequested:
    parent = Parent(run="run_a", depth=depth, step="stp_a", call="call_a")
    return RunRequested(
        goal="below", roles=ROLES, tools={}, model="m", plan=Plan(steps=(step("x"),)), parent=parent, **more
    )


def spawn(story: Scenario, child: str = "run_b", *, wait: bool = True, key: str = "a") -> list[Any]:
    actor = story.state.steps[key].actor
    command = Spawn(id=f"cmd_{child}", now_ms=NOW, child=child, request=request(), step=actor, call="call_a", wait=wait)
    return story.when(command)


def ended(story: Scenario, child: str = "run_b", status: str = "succeeded") -> list[Any]:
    outcome = Outcome(parent=HERE, seq=9, status=status, goal="below", summary="good")
    return [*story.when(ChildDone(id=f"cmd_done-{child}", now_ms=NOW, child=child, outcome=outcome)), *story.rest()]


def sends(story: Scenario) -> list[tuple[str, Address]]:
    return [(one.verb, one.address) for one in story.pending() if isinstance(one, Send)]


def below(**more: Any) -> Scenario:
    """A run under another, started."""
    story = Scenario(RUN, Address("default", "run_b"))
    story.when(StartRun(id="cmd_s", now_ms=NOW, request=request(**more)))
    story.rest(ticket=1)
    return story


def test_a_run_is_wanted_once_and_holds_up_the_end_of_the_one_above() -> None:
    story = run(step("a"))
    assert names(spawn(story)) == ["run.child_requested"]
    assert spawn(story) == []
    (made,) = [one for one in story.wanted() if one.address.run == "run_b"]
    assert (made.fact, made.to) == (request(), "run")
    assert names(done(story, "a")) == ["step.succeeded"]
    assert names(ended(story)) == ["run.child_ended", "run.succeeded"]
    assert ended(story) == []


def test_limits_and_a_run_that_stops_refuse_further_runs_by_name() -> None:
    story = run(step("a"), limits=Limits(children_max=1))
    spawn(story)
    for limits, code in ((None, "children_max"), (Limits(depth_max=0), "depth_max")):
        story = run(step("a"), limits=limits) if limits else story
        with pytest.raises(Refused) as refused:
            spawn(story, "run_c")
        assert refused.value.code == code
        assert f"limits.{code}" in str(refused.value)
    story = run(step("a"))
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    with pytest.raises(Refused) as refused:
        spawn(story)
    assert refused.value.code == "stopping"


def test_a_cancel_goes_down_and_the_run_above_ends_last() -> None:
    story = run(step("a"))
    spawn(story, wait=False)
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    assert ("cancel", Address("default", "run_b")) in sends(story)
    assert names(end_step(story, "a", AgentCanceled(by="ann"))) == ["step.canceled"]
    assert names(ended(story, status="canceled")) == ["run.child_ended", "run.canceled"]


def test_a_failed_step_stops_the_runs_below_before_the_run_fails() -> None:
    story = run(step("a"))
    spawn(story, wait=False)
    assert names(end_step(story, "a", AgentFailed(code="key_missing", reason="no", final=True))) == ["step.failed"]
    assert ("cancel", Address("default", "run_b")) in sends(story)
    assert names(ended(story, status="canceled")) == ["run.child_ended", "run.failed"]


def test_a_run_below_has_less_grace_than_the_one_above_so_that_none_outlives_it() -> None:
    grace = []
    for story in (run(step("x")), below(depth=1), below(depth=2), below(depth=8)):
        story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
        grace += [one.at_ms - NOW for one in story.pending() if isinstance(one, Schedule) and one.timer == CANCEL_TIMER]
    assert grace == sorted(grace, reverse=True)
    assert len(set(grace)) == 4
    assert grace[0] == CANCEL_GRACE_MS


def test_the_result_of_a_waiting_call_whose_agent_has_ended_is_wanted_by_nobody_and_its_run_is_stopped() -> None:
    story = run(step("a"), limits=Limits(attempts_max=3))
    spawn(story)
    spawn(story, "run_c", wait=False)
    assert not [each for each in sends(story) if each[0] == "cancel"]
    end_step(story, "a", AgentFailed(code="turns_max", reason="too long"))
    assert [each for each in sends(story) if each[0] == "cancel"] == [("cancel", Address("default", "run_b"))]


def test_the_word_of_an_end_goes_to_the_call_that_waits_or_to_the_agent_that_does_not() -> None:
    story = run(step("a"))
    actor = story.state.steps["a"].actor
    spawn(story)
    spawn(story, "run_c", wait=False)
    ended(story)
    ended(story, "run_c")
    assert sends(story) == [("child_done", ADDRESS.at(actor, "call_a")), ("child_done", ADDRESS.at(actor))]
    done(story, "a")
    assert sends(story) == []


def test_a_run_below_reports_its_end_to_the_one_above_also_when_it_is_asked_again() -> None:
    story = below()
    facts = done(story, "x", {"x.md": (None, File("1" * 64))})
    assert RUN.route(story.state, facts[-1]) == "run"
    assert sends(story) == [("child_done", ADDRESS)]
    outcome = outcome_of(story.state)
    assert outcome is not None
    assert (outcome.status, outcome.summary, outcome.changes) == (
        "succeeded",
        "x done",
        {"x.md": (None, File("1" * 64))},
    )


def test_a_run_starts_from_the_files_above_and_gives_back_what_differs() -> None:
    old, new = File("1" * 64), File("2" * 64)
    story = below(files={"keep.md": old, "edit.md": old})
    assert story.wanted()[0].fact.files == {"keep.md": old, "edit.md": old}  # type: ignore[attr-defined]
    done(story, "x", {"edit.md": (old, new)})
    outcome = outcome_of(story.state)
    assert outcome is not None
    assert outcome.changes == {"edit.md": (old, new)}


def test_a_pause_goes_down_to_who_was_there_and_whoever_comes_later_asks_itself() -> None:
    story = run(step("a"))
    spawn(story)
    story.when(Pause(id="cmd_p", now_ms=NOW, by="ann"))
    assert ("pause", Address("default", "run_b")) in sends(story)
    spawn(story, "run_c")
    assert ("pause", Address("default", "run_c")) not in sends(story)


# the call and the agent


def call() -> Scenario:
    asked = ToolRequested(tool="spawn", arguments=raw({}), effect="keyed", owner="agent", role="dev", use="use_0")
    story = Scenario(TOOL, CALL).given(asked)
    story.rest(ticket=1)
    return story


def brought(story: Scenario, status: str = "succeeded", changes: Changes | None = None) -> list[Any]:
    outcome = Outcome(
        parent=HERE, seq=9, status=status, goal="below", summary="good", code="x", reason="y", changes=changes or {}
    )
    return story.when(ChildDone(id="cmd_done-run_b", now_ms=NOW, child="run_b", outcome=outcome))


def returned(story: Scenario) -> list[Any]:
    return story.when(ToolReturned(id="cmd_t", now_ms=NOW, epoch=1, text="", child="run_b"))


def test_a_waiting_call_holds_no_ticket_and_ends_once_with_the_result() -> None:
    story = call()
    assert story.performable()
    assert names(returned(story)) == ["tool.waiting"]
    assert returned(story) == []
    assert story.performable() == []
    (end,) = brought(story)
    assert isinstance(end, ToolCompleted)
    assert (end.child, end.data["summary"]) == ("run_b", "good")
    assert brought(story) == []


def test_a_run_that_is_quicker_than_its_calls_worker_ends_the_call_and_nothing_is_refused() -> None:
    story = call()
    assert names(brought(story)) == ["tool.completed"]
    assert returned(story) == []


@pytest.mark.parametrize("status", ["failed", "canceled", "timed_out"])
def test_a_run_without_a_result_fails_its_call(status: str) -> None:
    story = call()
    returned(story)
    (end,) = brought(story, status)
    assert isinstance(end, ToolFailed)
    assert end.code == f"child_{status}"


def test_a_word_about_a_run_of_another_call_or_one_that_has_not_ended_changes_nothing() -> None:
    story = call()
    returned(story)
    assert story.when(ChildDone(id="cmd_1", now_ms=NOW, child="run_b")) == []
    other = Outcome(parent=Parent(run="run_a", depth=1, call="call_b"), seq=9, status="succeeded", goal="")
    assert story.when(ChildDone(id="cmd_2", now_ms=NOW, child="run_b", outcome=other)) == []


def test_a_waiting_call_can_be_canceled() -> None:
    story = call()
    returned(story)
    assert names(story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))) == ["tool.canceled"]


def test_news_of_a_run_comes_into_the_next_model_call_once() -> None:
    story = begun()
    assert names(brought(story)) == ["agent.child_ended"]
    assert brought(story) == []
    answer(story, ("read_file", {}))
    (made,) = create(story)
    story.given(ToolCompleted(epoch=1, text="read"), to="agent-dev", address=made.address)
    (asked,) = story.rest(ticket=story.seq)
    assert isinstance(asked, ModelRequested)
    assert asked.takes[-1] == FromChild("run_b")
    assert "Run run_b succeeded: good" in str(story.state.messages[-1])
    assert story.state.untold == ()


def test_files_of_a_run_that_do_not_fit_are_left_out_and_the_model_is_told() -> None:
    story = begun(files={"a.md": File("1" * 64)}, writes=("docs/",))
    answer(story, ("read_file", {}), ("read_file", {}), ("read_file", {}))
    made = create(story)
    changes: list[Changes] = [
        {"docs/a.md": (None, File("2" * 64))},
        {"docs/a.md": (None, File("3" * 64))},
        {"elsewhere.md": (None, File("4" * 64))},
    ]
    for one, change in zip(made, changes, strict=True):
        fact = ToolCompleted(epoch=1, text="done", child="run_b", changes=change)
        story.given(fact, to="agent-dev", address=one.address)
    assert story.state.files == {"a.md": File("1" * 64), "docs/a.md": File("2" * 64)}
    texts = [each.text for each in story.state.calls.values()]
    assert texts[0] == "done"
    assert "docs/a.md" in texts[1]
    assert "elsewhere.md" in texts[2]


def test_a_calls_run_has_the_calls_digits() -> None:
    assert child_id("call_01abc") == "run_01abc"
    assert AGENT.step == CALL.step


def test_the_grace_of_a_run_below_ends_it_by_its_timer() -> None:
    story = below()
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="run_a"))
    assert names(story.when(TimerFired(id="cmd_t", now_ms=NOW + 9_000, timer=CANCEL_TIMER))) == ["run.canceled"]
    assert ("child_done", ADDRESS) in sends(story)


def test_a_run_below_in_line_is_not_waited_for_by_who_waits_for_it() -> None:
    story = run(step("a"), budget=Budget(tool_calls=1, model_calls=1))
    story.rest()
    spawn(story)
    least = Amount(model_calls=1, tool_calls=1)
    claim = ReserveBudget(id="cmd_r", now_ms=NOW, run="run_b", claim=7, want=Grant(), least=least)
    assert names([*story.when(claim), *story.rest()]) == ["budget.queued", "budget.exhausted"]
    more = RaiseBudget(id="cmd_m", now_ms=NOW, budget=Budget(), add=Budget(model_calls=1, tool_calls=1), by="ann")
    assert names([*story.when(more), *story.rest()]) == ["budget.raised", "budget.reserved"]


def test_a_run_below_that_hands_back_before_its_claim_came_is_given_nothing_then() -> None:
    story = run(step("a"), budget=Budget(model_calls=9))
    story.rest()
    spawn(story)
    back = ReturnBudget(id="cmd_return-run_b", now_ms=NOW, run="run_b", used=Amount())
    assert names(story.when(back)) == ["budget.returned"]
    claim = ReserveBudget(id="cmd_r", now_ms=NOW, run="run_b", claim=7, want=Grant(), least=Amount(model_calls=1))
    assert [*story.when(claim), *story.rest()] == []
