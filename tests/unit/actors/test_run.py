"""A run: ready steps start at once, gates send work back, files merge or conflict, and it ends once."""

from typing import Any

import pytest
from msgspec.structs import replace

from actors.decider import (
    Advance,
    Cancel,
    Command,
    Nudge,
    Pause,
    Refused,
    Resume,
    Schedule,
    Send,
    Terminate,
    TimerFired,
)
from actors.run import CANCEL_TIMER, RUN, WATCH_MS, StartRun
from actors.run_budget import RaiseBudget
from actors.run_letters import ReopenStep, carried
from actors.run_results import AgentEnded, CallEnded
from events.agent import AgentCanceled, AgentFailed, AgentRequested, AgentSucceeded
from events.budget import Budget
from events.dead_letter import DeadLetterRecorded
from events.fact import Changes, File, Finding, Usage, Verdict
from events.plan import Gate, Plan, PlanStep
from events.run import (
    GateFailed,
    Limits,
    PlanAccepted,
    Role,
    RunCanceled,
    RunEnd,
    RunFailed,
    RunRequested,
    RunSucceeded,
    RunTimedOut,
    StepConflicted,
    StepFailed,
    StepReopened,
    StepStarted,
)
from events.tool import ToolCompleted
from tests.unit.actors.scenario import NOW, Scenario, names
from tests.unit.actors.scenario import RUN as ADDRESS

ROLES = {
    name: Role(definition="0" * 64, tools=(), model="m", description=name) for name in ("dev", "reviewer", "planner")
}


def step(id_: str, *needs: str, role: str = "dev", **more: Any) -> PlanStep:
    return PlanStep(id=id_, role=role, task=f"do {id_}", needs=needs, **more)


def run(*steps: PlanStep, **more: Any) -> Scenario:
    plan = Plan(steps=steps) if steps else None
    request = RunRequested(goal="build it", roles=ROLES, tools={}, model="m", plan=plan, **more)
    story = Scenario(RUN, ADDRESS)
    assert story.when(StartRun(id="cmd_s", now_ms=NOW, request=request)) == [request]
    story.rest(ticket=1)
    return story


def opened(story: Scenario) -> list[str]:
    return [open_.spec.id for open_ in story.state.open_steps()]


def end(story: Scenario, key: str, fact: Any) -> list[Any]:
    actor = story.state.steps[key].actor
    command = AgentEnded(id=str(story.seq), now_ms=story.now, actor=actor, seq=story.seq, end=fact)
    return [*story.when(command), *story.rest()]


def done(story: Scenario, key: str, changes: Changes | None = None) -> list[Any]:
    return end(story, key, AgentSucceeded(summary=f"{key} done", changes=changes or {}, usage=Usage(output_tokens=1)))


def judge(story: Scenario, key: str, *, passed: bool, names_: tuple[str, ...] = ()) -> list[Any]:
    findings = tuple(Finding(step=name, message=f"mend {name}") for name in names_)
    return end(story, key, AgentSucceeded(summary="judged", verdict=Verdict(passed, "judged", findings)))


def agents(story: Scenario) -> dict[str, AgentRequested]:
    made = [one.fact for one in story.wanted()]
    return {fact.key: fact for fact in made if isinstance(fact, AgentRequested)}


def test_independent_steps_start_at_once_and_dependent_ones_when_all_they_need_is_done() -> None:
    story = run(step("a"), step("b"), step("c", "a", "b"))
    assert opened(story) == ["a", "b"]
    done(story, "a")
    assert opened(story) == ["b"]
    done(story, "b")
    assert opened(story) == ["c"]
    facts = done(story, "c")
    assert isinstance(facts[-1], RunSucceeded)
    assert story.state.usage.output_tokens == 3


def test_the_brief_holds_the_goal_the_task_and_what_the_steps_before_report() -> None:
    story = run(step("a"), step("b", "a"))
    done(story, "a", {"x.md": (None, File("1" * 64))})
    brief = agents(story)["b"].brief
    assert "build it" in brief
    assert "do b" in brief
    assert "a done" in brief
    assert "x.md" in brief
    assert agents(story)["b"].files == {"x.md": File("1" * 64)}


def test_changes_of_parallel_steps_are_both_merged() -> None:
    story = run(step("a"), step("b"))
    done(story, "a", {"a.py": (None, File("1" * 64))})
    done(story, "b", {"b.py": (None, File("2" * 64))})
    assert set(story.state.head) == {"a.py", "b.py"}


def test_a_conflict_merges_nothing_and_sends_the_step_back_from_the_new_head() -> None:
    story = run(step("a"), step("b"))
    done(story, "a", {"same.py": (None, File("1" * 64))})
    facts = done(story, "b", {"same.py": (None, File("2" * 64)), "b.py": (None, File("3" * 64))})
    assert isinstance(facts[0], StepConflicted)
    assert facts[0].paths == ("same.py",)
    assert set(story.state.head) == {"same.py"}
    assert isinstance(facts[1], StepStarted)
    assert facts[1].attempt == 2
    assert facts[1].actor == f"{facts[1].step}-2"
    assert "same.py" in agents(story)["b"].brief
    assert agents(story)["b"].files == {"same.py": File("1" * 64)}


def test_a_failed_attempt_is_tried_again_until_its_attempts_are_used_up() -> None:
    story = run(step("a"), limits=Limits(attempts_max=2))
    facts = end(story, "a", AgentFailed(code="turns_max", reason="too long"))
    assert names(facts) == ["step.failed", "step.started"]
    facts = end(story, "a", AgentFailed(code="turns_max", reason="too long"))
    assert isinstance(facts[-1], RunFailed)
    assert facts[-1].code == "turns_max"
    assert facts[-1].step == "a"


def test_a_final_failure_is_not_tried_again_and_stops_the_others_first() -> None:
    story = run(step("a"), step("b"))
    facts = end(story, "a", AgentFailed(code="key_missing", reason="no key", final=True))
    assert isinstance(facts[0], StepFailed)
    assert facts[0].final
    assert [one.verb for one in story.pending() if isinstance(one, Send)] == ["cancel"]
    facts = end(story, "b", AgentCanceled(by="step a failed"))
    assert names(facts) == ["step.canceled", "run.failed"]


def test_a_failed_gate_sends_the_named_step_back_with_its_findings_and_judges_again() -> None:
    review = step("review", "a", "b", role="reviewer", gate=Gate(rework=("a", "b"), rounds=2))
    story = run(step("a"), step("b"), review, step("last", "review"))
    done(story, "a")
    done(story, "b")
    facts = judge(story, "review", passed=False, names_=("b",))
    assert isinstance(facts[0], GateFailed)
    assert facts[0].rework == ("b",)
    assert opened(story) == ["b"]
    assert "mend b" in agents(story)["b"].brief
    done(story, "b")
    assert opened(story) == ["review"]
    assert names(judge(story, "review", passed=True))[0] == "gate.passed"
    assert opened(story) == ["last"]


def test_rework_opens_every_gate_behind_it_again() -> None:
    code = step("code", "a", role="reviewer", gate=Gate(rework=("a",), rounds=2))
    security = step("security", "code", role="reviewer", gate=Gate(rework=("a",), rounds=2))
    story = run(step("a"), code, security)
    done(story, "a")
    judge(story, "code", passed=True)
    judge(story, "security", passed=False)
    assert opened(story) == ["a"]
    done(story, "a")
    assert opened(story) == ["code"]
    judge(story, "code", passed=True)
    assert opened(story) == ["security"]


def escalated() -> tuple[Scenario, str]:
    review = step("review", "a", role="reviewer", gate=Gate(rework=("a",), rounds=1))
    story = run(step("a"), review)
    done(story, "a")
    judge(story, "review", passed=False)
    done(story, "a")
    facts = judge(story, "review", passed=False)
    assert isinstance(facts[0], GateFailed)
    return story, facts[0].ask


def answered(story: Scenario, ask: str, decision: str) -> list[Any]:
    end_ = ToolCompleted(epoch=0, text="", data={"decision": decision, "by": "ann", "comment": "so be it"})
    return [*story.when(CallEnded(id="9", now_ms=NOW, call=ask, end=end_)), *story.rest()]


def test_past_its_rounds_a_gate_asks_a_human_who_may_waive_it() -> None:
    story, ask = escalated()
    assert ask
    made = story.wanted()
    assert [one.address.call for one in made] == [ask]
    assert names(answered(story, ask, "approve")) == ["gate.waived", "run.succeeded"]


def test_a_human_may_send_a_failed_gate_back_with_words() -> None:
    story, ask = escalated()
    assert names(answered(story, ask, "respond")) == ["gate.reopened", "step.started"]
    assert "so be it" in agents(story)["a"].brief


def test_a_human_may_let_a_failed_gate_end_the_run() -> None:
    story, ask = escalated()
    facts = answered(story, ask, "reject")
    assert isinstance(facts[-1], RunFailed)
    assert facts[-1].code == "gate_failed"


def test_a_goal_alone_is_planned_first_and_a_faulty_plan_goes_back_to_the_planner() -> None:
    story = run()
    assert opened(story) == ["planner"]
    assert agents(story)["planner"].planner
    cyclic = Plan(steps=(step("a", "b"), step("b", "a")))
    facts = end(story, "planner", AgentSucceeded(summary="p", plan=cyclic))
    assert isinstance(facts[0], StepFailed)
    assert "cycle" in facts[0].reason
    assert "cycle" in agents(story)["planner"].brief
    facts = end(story, "planner", AgentSucceeded(summary="p", plan=Plan(steps=(step("a"), step("b", "a")))))
    assert isinstance(facts[0], PlanAccepted)
    assert opened(story) == ["a"]


def test_a_result_counts_once_and_an_old_attempts_never() -> None:
    story = run(step("a"), step("b", "a"))
    first = story.state.steps["a"].actor
    end(story, "a", AgentFailed(code="x", reason="y"))
    late = AgentEnded(id="9", now_ms=NOW, actor=first, seq=9, end=AgentSucceeded(summary="late"))
    assert story.when(late) == []
    done(story, "a")
    again = AgentEnded(
        id="10", now_ms=NOW, actor=story.state.steps["a"].actor, seq=9, end=AgentSucceeded(summary="twice")
    )
    assert story.when(again) == []


def test_a_cancel_stops_what_runs_and_ends_when_all_have_ended() -> None:
    story = run(step("a"), step("b"))
    facts = [*story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann")), *story.rest()]
    assert names(facts) == ["run.cancel_requested"]
    assert RUN.route(story.state, facts[0]) == "run"
    assert len([one for one in story.pending() if isinstance(one, Send)]) == 2
    assert story.when(Cancel(id="cmd_d", now_ms=NOW, by="bob")) == []
    end(story, "a", AgentCanceled(by="ann"))
    facts = end(story, "b", AgentSucceeded(summary="just in time"))
    assert isinstance(facts[-1], RunCanceled)
    assert story.when(Cancel(id="cmd_e", now_ms=NOW, by="bob")) == []


def test_a_cancel_ends_by_its_timer_when_something_does_not_stop() -> None:
    story = run(step("a"))
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    timers = [one for one in story.pending() if isinstance(one, Schedule) and one.timer == CANCEL_TIMER]
    assert [one.at_ms for one in timers] == [NOW + 10_000]
    assert names(story.when(TimerFired(id="cmd_t", now_ms=NOW, timer=CANCEL_TIMER))) == ["run.canceled"]


ENDS = (
    RunSucceeded(summary="done"),
    RunFailed(code="turns", reason="too many"),
    RunTimedOut(reason="too long"),
    RunCanceled(by="bob"),
)
ACTS: tuple[Command, ...] = (
    Cancel(id="cmd_c", now_ms=NOW, by="ann"),
    Terminate(id="cmd_t", now_ms=NOW, by="ann"),
    Pause(id="cmd_p", now_ms=NOW, by="ann"),
    Resume(id="cmd_r", now_ms=NOW, by="ann"),
    RaiseBudget(id="cmd_b", now_ms=NOW, budget=Budget(), add=Budget(tokens=1), by="ann"),
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: type(act).__name__)
def test_an_act_on_a_run_that_has_ended_is_refused_unless_it_is_so_already(act: Command, end: RunEnd) -> None:
    story = run(step("a"), budget=Budget(tokens=100_000))
    story.given(end)
    if isinstance(act, Cancel) and isinstance(end, RunCanceled):
        assert story.when(act) == []
        return
    with pytest.raises(Refused) as refused:
        story.when(act)
    assert (refused.value.code, refused.value.recorded) == ("run_ended", end)


def test_the_watch_doubles_while_nothing_moves_and_ignores_timers_nobody_asked_for() -> None:
    story = run(step("a"))
    assert story.state.watch is not None
    assert story.when(TimerFired(id="cmd_x", now_ms=NOW, timer="tmr_other")) == []
    intervals: list[int] = []
    for count in range(3):
        story.now = story.state.watch.at
        fired = TimerFired(id=f"cmd_{count}", now_ms=story.now, timer=story.state.watch.timer)
        (timer,) = story.when(fired)
        intervals.append(timer.at - story.now)  # type: ignore[attr-defined]
    assert intervals == [WATCH_MS, WATCH_MS * 2, WATCH_MS * 4]
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={})) == []
    assert story.when(Advance(id="x", now_ms=NOW)) == []


def test_a_watch_whose_time_was_over_as_it_was_set_does_not_go_back_in_time() -> None:
    story = run(step("a"))
    assert story.state.watch is not None
    late = replace(story.state.watch, at=story.now - 3_600_000)
    story.given(late)
    (timer,) = story.when(TimerFired(id="cmd_t", now_ms=story.now, timer=late.timer))
    assert timer.at == story.now + WATCH_MS  # type: ignore[attr-defined]


FINAL = AgentFailed(code="broken", reason="it cannot be done", final=True)


def reopen(key: str) -> ReopenStep:
    return ReopenStep(id="cmd_reopen", now_ms=NOW, key=key, by="ann", letter="dlq_1")


def test_a_step_that_failed_for_good_is_a_dead_letter_also_after_the_run_has_ended() -> None:
    story = run(step("a"))
    end(story, "a", FINAL)
    assert isinstance(story.state.end, RunFailed)
    (made,) = story.wanted()
    assert isinstance(made.fact, DeadLetterRecorded)
    assert (made.address.run, made.to) == ("-", "-")
    assert (made.fact.source, made.fact.key, made.fact.role, made.fact.code) == ("step", "a", "dev", "broken")


def test_a_failed_step_is_opened_again_while_its_run_goes_on_and_not_after() -> None:
    story = run(step("a"), step("b"))
    end(story, "a", FINAL)
    assert story.when(reopen("a")) == [
        StepReopened(
            step=story.state.steps["a"].id,
            key="a",
            by="ann",
            letter="dlq_1",
            comment="opened again after broken: it cannot be done",
        )
    ]
    story.rest()
    assert opened(story) == ["a", "b"]
    assert story.state.steps["a"].attempt == 2
    assert not any(isinstance(made.fact, DeadLetterRecorded) for made in story.wanted())
    with pytest.raises(Refused) as refused:
        story.when(reopen("b"))
    assert refused.value.code == "step_not_failed"
    done(story, "a")
    end(story, "b", FINAL)
    with pytest.raises(Refused) as ended:
        story.when(reopen("b"))
    assert ended.value.code == "run_ended"


def test_a_run_that_carries_another_one_over_does_the_failed_step_and_what_is_behind_it_only() -> None:
    story = run(step("a"), step("b", "a"), step("c", "b"), step("d", "a"))
    done(story, "a", {"a.txt": (None, File("1"))})
    done(story, "d")
    end(story, "b", FINAL)
    request = carried(story.state, "dlq_1")
    assert request.carried is not None
    assert [each.key for each in request.carried.steps] == ["a", "d"]
    after = Scenario(RUN, ADDRESS)
    after.when(StartRun(id="cmd_s", now_ms=NOW, request=request))
    after.rest(ticket=1)
    assert opened(after) == ["b"]
    assert after.state.head == {"a.txt": File("1")}
    done(after, "b")
    assert opened(after) == ["c"]
    assert isinstance(done(after, "c")[-1], RunSucceeded)


def test_a_step_that_was_given_up_is_a_dead_letter_too_and_is_done_again_by_the_next_run() -> None:
    story = run(step("a", on_failure="degrade"), step("b"), degrade=True)
    end(story, "a", FINAL)
    assert story.state.steps["a"].status == "given_up"
    letters = [made.fact for made in story.wanted() if isinstance(made.fact, DeadLetterRecorded)]
    assert [letter.key for letter in letters] == ["a"]
    done(story, "b")
    request = carried(story.state, "dlq_1")
    assert request.carried is not None
    assert [each.key for each in request.carried.steps] == ["b"]
