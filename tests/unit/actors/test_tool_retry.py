"""A call that failed for now: tried again after a wait that holds no ticket, as often as it may be, and never if it is unsafe."""

from typing import Any

import pytest

from actors.backoff import BACKOFF_MS_MAX, backoff_ms
from actors.decider import Cancel, Nudge, Schedule, TakeOver, TimerFired, timer_command
from actors.tool import TOOL, ToolRaised, ToolReturned
from actors.tool_outcome import RETRY
from events.tool import ToolAttemptFailed, ToolFailed, ToolReissued, ToolRequested, ToolStarted
from tests.unit.actors.scenario import CALL, NOW, Scenario, names, raw


def call(effect: str = "idempotent", **more: Any) -> Scenario:
    request = ToolRequested(tool="fetch", arguments=raw({}), effect=effect, owner="agent", role="dev", **more)
    story = Scenario(TOOL, CALL).given(request)
    story.rest(ticket=1)
    return story


def raised(epoch: int, *, retryable: bool = True) -> ToolRaised:
    return ToolRaised(id="cmd_r", now_ms=NOW, epoch=epoch, code="unavailable", reason="503", retryable=retryable)


def failed(story: Scenario) -> ToolAttemptFailed:
    (fact,) = story.when(raised(story.state.epoch))
    assert isinstance(fact, ToolAttemptFailed)
    return fact


def due(story: Scenario, fact: ToolAttemptFailed) -> TimerFired:
    return TimerFired(id=f"cmd_t{story.seq}", now_ms=fact.retry_at, timer=RETRY)


@pytest.mark.parametrize("effect", ["read", "idempotent", "keyed"])
def test_a_call_that_failed_for_now_is_tried_again_after_a_wait(effect: str) -> None:
    story = call(effect)
    fact = failed(story)
    assert (fact.attempt, fact.code) == (1, "unavailable")
    assert NOW + 500 <= fact.retry_at <= NOW + 750
    assert story.pending() == [Schedule(asked=story.seq, timer=RETRY, at_ms=fact.retry_at)]
    assert story.when(due(story, fact)) == [ToolReissued(epoch=2)]
    ticket = story.state.ticket
    assert story.rest(ticket=ticket) == ([ToolStarted(epoch=2)] if effect == "keyed" else [])
    assert [(one.ticket, one.epoch) for one in story.performable()] == [(ticket, 2)]
    done = ToolReturned(id="cmd_d", now_ms=NOW, epoch=2, text="ok")
    assert names(story.when(done)) == ["tool.completed"]


def test_the_last_attempts_failure_is_what_the_model_reads() -> None:
    story = call(attempts_max=2)
    story.when(due(story, failed(story)))
    (end,) = story.when(raised(2))
    assert isinstance(end, ToolFailed)
    assert (end.code, end.reason) == ("unavailable", "503")


def test_a_failure_that_stays_one_ends_the_call_at_once() -> None:
    assert names(call().when(raised(1, retryable=False))) == ["tool.failed"]


def test_an_unsafe_call_that_failed_is_never_tried_again() -> None:
    assert names(call("unsafe").when(raised(1))) == ["tool.failed"]


def test_the_same_failure_told_twice_counts_once() -> None:
    story = call()
    failed(story)
    assert story.when(raised(1)) == []
    assert story.state.attempts == 1


def test_the_outcome_of_an_earlier_attempt_is_refused() -> None:
    story = call()
    story.when(due(story, failed(story)))
    assert names(story.when(ToolReturned(id="cmd_d", now_ms=NOW, epoch=1, text="late"))) == ["tool.refused"]


def test_the_timer_that_was_set_is_believed_by_a_worker_whose_clock_is_behind() -> None:
    story = call()
    failed(story)
    assert story.when(TimerFired(id="cmd_t", now_ms=NOW - 3_600_000, timer=RETRY)) == []
    fired = TimerFired(id=timer_command(RETRY, story.seq), now_ms=NOW - 3_600_000, timer=RETRY)
    assert names(story.when(fired)) == ["tool.reissued"]


def test_the_watch_issues_an_attempt_whose_timer_was_lost() -> None:
    story = call()
    fact = failed(story)
    floors = {"tool-local": 99}
    assert story.when(Nudge(id="cmd_n", now_ms=fact.retry_at - 1, floors=floors)) == []
    assert names(story.when(Nudge(id="cmd_m", now_ms=fact.retry_at, floors=floors))) == ["tool.reissued"]


def test_a_ticket_delivered_again_while_the_call_waits_changes_nothing() -> None:
    story = call()
    failed(story)
    assert story.when(TakeOver(id="1", now_ms=NOW, ticket=1)) == []


def test_a_cancel_ends_a_call_that_waits_for_its_next_attempt() -> None:
    story = call()
    failed(story)
    assert names(story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))) == ["tool.canceled"]
    assert story.pending() == []


def test_waits_double_up_to_a_minute_and_differ_between_calls() -> None:
    waits = [backoff_ms(CALL, attempt, first_ms=500) for attempt in range(1, 40)]
    assert all(500 << n <= wait <= 750 << n for n, wait in enumerate(waits[:6]))
    assert all(BACKOFF_MS_MAX <= wait <= BACKOFF_MS_MAX * 1.5 for wait in waits[8:])
    others = {backoff_ms(CALL.at("stp_a", f"call_{n}"), 1, first_ms=500) for n in range(20)}
    assert len(others) > 10
