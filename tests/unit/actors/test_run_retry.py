"""A step's failures: it is tried again after a while, then by its fallback role, then a human, the plan or the run decides."""

from typing import Any

import pytest

from actors import run_retry
from actors.decider import Create, Pause, Resume, Schedule, Send, TimerFired, timer_command
from actors.run import CANCEL_GRACE_MS, CANCEL_TIMER
from actors.run_results import AgentEnded, CallEnded
from actors.run_retry import DEADLINE, GRACE_MS
from actors.run_state import ERROR_CHARS_MAX, ERRORS_MAX
from events.agent import AgentCanceled, AgentFailed, AgentRequested, AgentSucceeded
from events.budget import Budget
from events.dead_letter import DeadLetterRecorded
from events.fact import Fact, Usage
from events.plan import Gate, Retry
from events.run import (
    Limits,
    RunCancelRequested,
    RunFailed,
    RunSucceeded,
    RunTimedOut,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepTimedOut,
)
from events.tool import ToolCompleted, ToolRequested
from tests.unit.actors.scenario import NOW, Scenario, names
from tests.unit.actors.test_run import agents, done, end, judge, opened, run, step

ONCE = Retry(attempts_max=1)
TWICE = Retry(attempts_max=2)


def fail(story: Scenario, key: str, code: str = "overloaded", *, final: bool = False) -> list[Any]:
    return end(story, key, AgentFailed(code=code, reason=f"{code} it is", final=final))


def schedules(story: Scenario) -> dict[str, int]:
    return {one.timer: one.at_ms for one in story.pending() if isinstance(one, Schedule) and "tmr_" not in one.timer}


def fire(story: Scenario, timer: str, *, now_ms: int | None = None) -> list[Fact]:
    """Let a timer fire, as by default when it is due."""
    asked = {one.timer: one.asked for one in story.pending() if isinstance(one, Schedule)}.get(timer, 0)
    story.now = now_ms or schedules(story).get(timer, story.now)
    facts = story.when(TimerFired(id=timer_command(timer, asked), now_ms=story.now, timer=timer))
    return [*facts, *story.rest()]


def answer(story: Scenario, decision: str, comment: str = "") -> list[Fact]:
    """Let ann decide about the step that asks."""
    asking = next(each for each in story.state.steps.values() if each.ask)
    said = ToolCompleted(epoch=0, text=comment, data={"decision": decision, "by": "ann", "comment": comment})
    return [*story.when(CallEnded(id="cmd_a", now_ms=story.now, call=asking.ask, end=said)), *story.rest()]


def letters(story: Scenario) -> list[Create]:
    """Return the dead letters that are wanted."""
    return [one for one in story.wanted() if isinstance(one.fact, DeadLetterRecorded)]


def failure(facts: list[Any]) -> StepFailed:
    return next(fact for fact in facts if isinstance(fact, StepFailed))


def start(facts: list[Any]) -> StepStarted:
    return next(fact for fact in facts if isinstance(fact, StepStarted))


# attempts and waits


def test_a_failure_that_time_may_heal_waits_for_its_timer_before_the_next_attempt() -> None:
    story = run(step("a"))
    facts = fail(story, "a")
    assert names(facts) == ["step.failed"]
    assert failure(facts).next == "retry"
    (timer,) = schedules(story)
    assert timer == f"retry-{story.state.steps['a'].id}"
    assert NOW + 1000 <= schedules(story)[timer] == failure(facts).retry_at <= NOW + 1500
    facts = fire(story, timer)
    assert names(facts) == ["step.started"]
    assert (start(facts).attempt, start(facts).attempts_max) == (2, 3)
    assert schedules(story) == {}


def test_the_wait_doubles_up_to_its_most_and_half_of_it_hangs_on_who_waits() -> None:
    story = run(step("a", retry=Retry(attempts_max=9, backoff_seconds=2, backoff_seconds_max=10)))
    waits: list[int] = []
    for _ in range(6):
        failed = failure(fail(story, "a"))
        waits.append(failed.retry_at - NOW)
        story.now = NOW
        fire(story, next(iter(schedules(story))))
        story.now = NOW
    for wait, full in zip(waits, (2000, 4000, 8000, 10000, 10000, 10000), strict=True):
        assert full <= wait <= full * 3 // 2
    assert len({wait % 1000 for wait in waits}) > 1


def test_two_steps_that_fail_together_do_not_come_again_together() -> None:
    story = run(step("a"), step("b"), step("c"))
    waits = {failure(fail(story, key)).retry_at for key in ("a", "b", "c")}
    assert len(waits) == 3


@pytest.mark.parametrize("code", ["validation", "turns_max", "refused"])
def test_what_waiting_does_not_heal_is_tried_again_at_once_with_its_findings(code: str) -> None:
    story = run(step("a"))
    facts = fail(story, "a", code)
    assert names(facts) == ["step.failed", "step.started"]
    assert f"{code} it is" in agents(story)["a"].brief


def test_the_timer_counts_even_where_the_clock_is_behind_the_one_that_set_it() -> None:
    story = run(step("a"))
    fail(story, "a")
    assert names(fire(story, next(iter(schedules(story))), now_ms=NOW - 3_600_000)) == ["step.started"]


def test_a_timer_of_an_attempt_that_is_over_brings_nothing() -> None:
    story = run(step("a"))
    fail(story, "a")
    (timer,) = schedules(story)
    fire(story, timer)
    assert fire(story, timer) == []
    assert fire(story, "retry-nobody") == []
    assert fire(story, "nonsense") == []


def test_the_steps_own_attempts_count_before_the_runs() -> None:
    story = run(step("a", retry=ONCE), step("b"), limits=Limits(attempts_max=2))
    assert failure(fail(story, "b")).next == "retry"
    facts = fail(story, "a")
    assert (failure(facts).next, failure(facts).final) == ("fail", True)


# the fallback role


def test_when_its_attempts_are_used_up_the_fallback_role_has_as_many() -> None:
    story = run(step("a", fallback="reviewer", retry=TWICE))
    fail(story, "a", "turns_max")
    facts = fail(story, "a", "turns_max")
    assert failure(facts).next == "fallback"
    assert not failure(facts).final
    assert (start(facts).role, start(facts).fallback) == ("reviewer", True)
    assert (start(facts).attempt, start(facts).attempts_max) == (3, 4)
    (create,) = story.wanted()
    assert create.to == "start-reviewer"
    assert agents(story)["a"].role == "reviewer"
    fail(story, "a", "turns_max")
    facts = fail(story, "a", "turns_max")
    assert isinstance(facts[-1], RunFailed)


def test_a_role_that_cannot_do_it_at_all_gives_way_to_the_fallback_at_once() -> None:
    story = run(step("a", fallback="reviewer"))
    facts = fail(story, "a", "key_missing", final=True)
    assert names(facts) == ["step.failed", "step.started"]
    assert start(facts).role == "reviewer"


def test_work_that_a_gate_sends_back_stays_with_the_fallback_role() -> None:
    gate = step("g", "a", role="reviewer", gate=Gate(rework=("a",)))
    story = run(step("a", fallback="planner", retry=ONCE), gate)
    fail(story, "a")
    done(story, "a")
    facts = judge(story, "g", passed=False, names_=("a",))
    assert (start(facts).key, start(facts).role) == ("a", "planner")


# giving up


def test_a_step_that_may_is_given_up_and_the_run_ends_degraded() -> None:
    story = run(step("a", on_failure="degrade", retry=ONCE), step("b", "a"), degrade=True)
    facts = fail(story, "a")
    assert names(facts) == ["step.failed", "step.given_up", "step.started"]
    assert (failure(facts).next, failure(facts).final) == ("degrade", False)
    brief = agents(story)["b"].brief
    assert "# Missing" in brief
    assert "a: overloaded it is" in brief
    end_ = done(story, "b")[-1]
    assert isinstance(end_, RunSucceeded)
    assert (end_.degraded, end_.given_up, end_.summary) == (True, ("a",), "b done")


def test_what_a_step_reported_before_it_was_sent_back_and_given_up_is_not_reported_any_more() -> None:
    gate = step("g", "a", role="reviewer", gate=Gate(rework=("a",)))
    story = run(step("a", on_failure="degrade", retry=ONCE), gate, step("b", "g"), degrade=True)
    done(story, "a")
    judge(story, "g", passed=False, names_=("a",))
    fail(story, "a")
    judge(story, "g", passed=True)
    brief = agents(story)["b"].brief
    assert "a: overloaded it is" in brief
    assert "a done" not in brief


def test_without_the_runs_leave_a_step_is_not_given_up_and_the_fault_says_how_to_give_it() -> None:
    story = run(step("a", on_failure="degrade", retry=ONCE), step("b"))
    assert "--allow-degraded" in failure(fail(story, "a")).reason
    facts = end(story, "b", AgentCanceled(by="step a failed"))
    assert isinstance(facts[-1], RunFailed)


def test_a_run_whose_every_step_was_given_up_has_failed() -> None:
    story = run(step("a", on_failure="degrade", retry=ONCE), degrade=True)
    end_ = fail(story, "a")[-1]
    assert isinstance(end_, RunFailed)
    assert end_.code == "nothing_done"


def test_a_run_that_keeps_all_its_steps_is_not_degraded() -> None:
    story = run(step("a"), degrade=True)
    end_ = done(story, "a")[-1]
    assert isinstance(end_, RunSucceeded)
    assert not end_.degraded


# a human


def asked() -> Scenario:
    story = run(step("a", on_failure="ask", retry=ONCE), step("b"))
    assert failure(fail(story, "a")).next == "ask"
    return story


def test_a_human_is_asked_by_a_call_of_the_run_that_says_what_happened_and_what_can_be_done() -> None:
    story = asked()
    (question,) = [one for one in story.wanted() if isinstance(one.fact, ToolRequested)]
    fact = question.fact
    assert isinstance(fact, ToolRequested)
    assert (fact.kind, fact.owner, question.address.step, fact.key) == ("step", "run", "-", "a")
    assert b"overloaded it is" in bytes(fact.arguments)
    assert opened(story) == ["b"]


def test_approving_goes_on_without_the_step_whatever_the_plan_allows() -> None:
    story = asked()
    (given,) = answer(story, "approve", "not needed")
    assert isinstance(given, StepGivenUp)
    assert (given.by, given.code) == ("ann", "overloaded")
    (letter,) = letters(story)
    assert letter.asked == story.seq, (
        "the turn that says so hands its letter over, as nobody else will before the watch"
    )
    end_ = done(story, "b")[-1]
    assert isinstance(end_, RunSucceeded)
    assert end_.given_up == ("a",)


def test_a_steps_letter_tells_what_each_of_its_attempts_failed_of() -> None:
    story = run(step("a", fallback="reviewer", retry=TWICE))
    fail(story, "a", "validation")
    fail(story, "a", "refused", final=True)
    assert letters(story) == []
    fail(story, "a", "turns_max")
    fail(story, "a", "conflict", final=True)
    (letter,) = letters(story)
    assert isinstance(letter.fact, DeadLetterRecorded)
    assert (letter.fact.code, letter.fact.attempts) == ("conflict", 4)
    assert letter.fact.errors == (
        "attempt 1 (dev): validation: validation it is",
        "attempt 2 (dev): refused: refused it is",
        "attempt 3 (reviewer): turns_max: turns_max it is",
        "attempt 4 (reviewer): conflict: conflict it is",
    )


def test_a_letter_keeps_the_last_errors_of_very_many_attempts() -> None:
    story = run(step("a", retry=Retry(attempts_max=50)))
    for number in range(1, 51):
        fail(story, "a", "validation" if number < 50 else "x" * 2 * ERROR_CHARS_MAX)
    (letter,) = letters(story)
    assert isinstance(letter.fact, DeadLetterRecorded)
    assert len(letter.fact.errors) == ERRORS_MAX
    assert letter.fact.errors[0].startswith("attempt 31 ")
    assert len(letter.fact.errors[-1]) == ERROR_CHARS_MAX


def test_words_for_a_step_begin_its_attempts_anew_and_stand_in_its_brief() -> None:
    story = asked()
    facts = answer(story, "respond", "use the other door")
    assert isinstance(facts[0], StepReopened)
    assert (start(facts).attempt, start(facts).attempts_max) == (2, 2)
    assert "ann: use the other door" in agents(story)["a"].brief
    assert failure(fail(story, "a")).next == "ask"


def test_rejecting_lets_the_run_fail_with_the_steps_own_fault() -> None:
    story = asked()
    facts = answer(story, "reject", "no use")
    assert failure(facts).final
    facts = end(story, "b", AgentCanceled(by="x"))
    assert isinstance(facts[-1], RunFailed)
    assert (facts[-1].code, facts[-1].step) == ("overloaded", "a")
    assert "no use" in facts[-1].reason


def test_a_gate_whose_reviewer_fails_asks_about_the_step_and_not_about_a_verdict() -> None:
    gate = step("g", "a", role="reviewer", gate=Gate(rework=("a",)), on_failure="ask", retry=ONCE)
    story = run(step("a"), gate)
    done(story, "a")
    fail(story, "g")
    (question,) = [one.fact for one in story.wanted() if not isinstance(one.fact, AgentRequested)]
    assert isinstance(question, ToolRequested)
    assert question.kind == "step"
    assert names(answer(story, "approve")) == ["step.given_up", "run.succeeded"]


# time


def timed() -> tuple[Scenario, str]:
    story = run(step("a", timeout_seconds=30, retry=TWICE), limits=Limits(step_seconds=5))
    actor = story.state.steps["a"].actor
    assert schedules(story) == {f"due-{actor}": NOW + 30_000}
    return story, actor


def test_an_attempt_that_takes_too_long_is_told_to_stop_and_counts_as_failed_when_it_has() -> None:
    story, actor = timed()
    (fact,) = fire(story, f"due-{actor}")
    assert isinstance(fact, StepTimedOut)
    assert fact.seconds == 30
    stops = [one for one in story.pending() if isinstance(one, Send)]
    assert [(stop.address.step, stop.verb) for stop in stops] == [(actor, "cancel")]
    assert schedules(story) == {f"grace-{actor}": NOW + 30_000 + GRACE_MS}
    failed = failure(end(story, "a", AgentCanceled(by="timeout", usage=Usage(output_tokens=7))))
    assert (failed.code, failed.next, failed.usage.output_tokens) == ("timeout", "retry", 7)
    assert failed.reason == "no result within 30 s"
    assert list(schedules(story)) == [f"retry-{actor}"]


def test_a_result_that_comes_after_the_timeout_does_not_count() -> None:
    story, actor = timed()
    fire(story, f"due-{actor}")
    assert failure(done(story, "a")).code == "timeout"
    assert story.state.steps["a"].status == "pending"


def test_an_agent_that_does_not_stop_is_left_behind_after_its_grace_and_its_late_end_changes_nothing() -> None:
    story, actor = timed()
    fire(story, f"due-{actor}")
    assert failure(fire(story, f"grace-{actor}")).code == "timeout"
    fire(story, f"retry-{actor}")
    assert opened(story) == ["a"]
    before = story.state
    late = AgentSucceeded(summary="late")
    assert story.when(AgentEnded(id="9", now_ms=story.now, actor=actor, seq=9, end=late)) == []
    assert story.state == before


def test_a_timer_that_fires_after_the_result_changes_nothing() -> None:
    story, actor = timed()
    (asked,) = [one.asked for one in story.pending() if isinstance(one, Schedule) and one.timer == f"due-{actor}"]
    done(story, "a")
    late = TimerFired(id=timer_command(f"due-{actor}", asked), now_ms=NOW + 30_000, timer=f"due-{actor}")
    assert run_retry.timer_fired(story.state, late) == []


def test_an_attempt_after_one_that_timed_out_counts_by_itself() -> None:
    story, actor = timed()
    fire(story, f"due-{actor}")
    end(story, "a", AgentCanceled(by="timeout"))
    fire(story, f"retry-{actor}")
    assert story.state.steps["a"].retry_at == 0
    assert names(done(story, "a"))[0] == "step.succeeded"


def test_steps_have_the_runs_limit_unless_they_say_otherwise() -> None:
    story = run(step("a"), step("b", timeout_seconds=0), limits=Limits(step_seconds=5))
    assert list(schedules(story).values()) == [NOW + 5000]


def test_a_run_whose_time_is_over_stops_what_goes_on_and_ends_timed_out() -> None:
    story = run(step("a"), step("b"), limits=Limits(run_seconds=60))
    assert schedules(story) == {DEADLINE: NOW + 60_000}
    (fact,) = fire(story, DEADLINE)
    assert isinstance(fact, RunCancelRequested)
    assert fact.timed_out
    assert [one.verb for one in story.pending() if isinstance(one, Send)] == ["cancel", "cancel"]
    assert schedules(story) == {CANCEL_TIMER: NOW + 60_000 + CANCEL_GRACE_MS}
    end(story, "a", AgentCanceled(by="x"))
    (last,) = end(story, "b", AgentCanceled(by="x"))[1:]
    assert isinstance(last, RunTimedOut)
    assert "run_seconds, 60" in last.reason
    assert fire(story, DEADLINE) == []


def test_a_run_whose_agents_do_not_stop_in_time_is_timed_out_all_the_same() -> None:
    story = run(step("a"), limits=Limits(run_seconds=60))
    fire(story, DEADLINE)
    assert names(fire(story, CANCEL_TIMER)) == ["run.timed_out"]


def test_the_time_of_a_pause_counts_for_nobody() -> None:
    story = run(step("a", timeout_seconds=30), limits=Limits(run_seconds=60))
    actor = story.state.steps["a"].actor
    story.now = NOW + 10_000
    story.when(Pause(id="cmd_p", now_ms=story.now, by="ann"))
    assert fire(story, f"due-{actor}") == fire(story, DEADLINE) == []
    story.now = NOW + 100_000
    story.when(Resume(id="cmd_r", now_ms=story.now, by="ann"))
    assert schedules(story) == {f"due-{actor}": NOW + 120_000, DEADLINE: NOW + 150_000}
    set_anew = [one.timer for one in story.pending() if isinstance(one, Schedule) and one.asked == story.seq]
    assert set(set_anew) == {f"due-{actor}", DEADLINE}
    assert names(fire(story, f"due-{actor}")) == ["step.timed_out"]


def test_a_timer_that_an_outsider_sends_early_is_ignored() -> None:
    story, actor = timed()
    assert story.when(TimerFired(id="cmd_x", now_ms=NOW, timer=f"due-{actor}")) == []


# where the run stops anyway


def test_while_another_step_has_failed_for_good_nothing_is_tried_again_or_asked() -> None:
    story = run(step("a"), step("b", retry=ONCE), step("c", on_failure="ask", retry=ONCE))
    fail(story, "b")
    assert failure(fail(story, "a")).next == "stop"
    facts = fail(story, "c")
    assert failure(facts).next == "stop"
    assert isinstance(facts[-1], RunFailed)
    assert facts[-1].step == "b"


def test_an_attempt_left_behind_keeps_its_slice_of_the_budget() -> None:
    story = run(step("a", timeout_seconds=30, retry=TWICE), budget=Budget(model_calls=100))
    actor = story.state.steps["a"].actor
    purse = story.state.purse
    assert purse is not None
    held = purse.committed.model_calls
    assert held > 0
    fire(story, f"due-{actor}")
    assert failure(fire(story, f"grace-{actor}")).seq == 0
    purse = story.state.purse
    assert purse is not None
    assert (purse.used.model_calls, purse.holds) == (held, {})
