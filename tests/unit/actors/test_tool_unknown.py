"""An unsafe call that was cut off: never run again by itself; by policy the model, a human or a probe tells what became of it."""

from typing import Any

import pytest

from actors.decider import Cancel, Nudge, Perform, Refused, Schedule, TakeOver, TimerFired
from actors.tool import TOOL, Decide, ToolRaised, ToolReturned
from actors.tool_approval import OUTCOME_EXPIRY, call_id
from actors.tool_outcome import RETRY
from events.fact import Fact
from events.tool import (
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
)
from tests.unit.actors.scenario import CALL, NOW, Scenario, names, raw

TAKE_OVER = TakeOver(id="1", now_ms=NOW, ticket=1)
CANCEL = Cancel(id="cmd_c", now_ms=NOW, by="ann")


def started(unknown: Any, **more: Any) -> Scenario:
    """An unsafe call that is being performed."""
    request = ToolRequested(
        tool="pay", arguments=raw({"sum": 5}), effect="unsafe", owner="agent", role="dev", unknown=unknown, **more
    )
    story = Scenario(TOOL, CALL).given(request)
    assert story.rest(ticket=1)[-1] == ToolStarted(epoch=1)
    return story


def cut_off(unknown: Any, **more: Any) -> Scenario:
    """One whose worker was lost in the middle."""
    story = started(unknown, **more)
    story.when(TAKE_OVER)
    story.rest(ticket=1)
    return story


def returned(epoch: int, text: str = "paid") -> ToolReturned:
    return ToolReturned(id="cmd_r", now_ms=NOW, epoch=epoch, text=text)


def raised(epoch: int, code: str = "broken", **more: Any) -> ToolRaised:
    return ToolRaised(id="cmd_r", now_ms=NOW, epoch=epoch, code=code, reason="why", **more)


def decision(word: Any, **more: Any) -> Decide:
    return Decide(id=f"cmd_{word}", now_ms=NOW, decision=word, by="ann", **more)


def end(facts: list[Fact]) -> tuple[str, str]:
    (fact,) = facts
    assert isinstance(fact, ToolFailed)
    return fact.code, fact.reason


def asked(story: Scenario) -> ApprovalRequested:
    assert story.state.outcome is not None
    return story.state.outcome.request


@pytest.mark.parametrize(
    "command",
    [TAKE_OVER, raised(1, "timed_out", unsure=True), Nudge(id="cmd_n", now_ms=NOW, floors={"tool-local": 1})],
    ids=["its worker died", "it took too long", "its ticket was lost"],
)
@pytest.mark.parametrize(
    ("policy", "said"), [("model", "tool.failed"), ("human", "tool.outcome_unknown"), ("probe", "tool.outcome_unknown")]
)
def test_a_call_cut_off_in_the_middle_is_never_performed_again(command: Any, policy: str, said: str) -> None:
    story = started(policy)
    assert names(story.when(command)) == [said]
    story.rest(ticket=1)
    assert [one for one in story.performable() if not one.probe] == []
    assert story.when(TAKE_OVER) == [] or policy == "probe"


def test_under_policy_model_the_call_ends_at_once_and_says_that_nobody_knows() -> None:
    code, reason = end(started("model").when(TAKE_OVER))
    assert code == "outcome_unknown"
    assert reason == "its worker was lost in the middle; it may or may not have happened"


def test_a_result_brought_twice_because_the_answer_was_lost_is_no_late_one() -> None:
    for outcome in (returned(1), raised(1), raised(1, unsure=True)):
        story = started("model")
        assert len(story.when(outcome)) == 1
        assert story.when(outcome) == []


def test_a_failure_that_the_tool_is_sure_of_is_a_failure() -> None:
    assert end(started("human").when(raised(1, retryable=True))) == ("broken", "why")


def test_a_late_outcome_after_the_end_is_refused() -> None:
    story = cut_off("model")
    assert names(story.when(returned(1))) == ["tool.refused"]
    assert isinstance(story.state.end, ToolFailed)


# a human tells


def test_a_human_is_asked_what_became_of_it() -> None:
    story = cut_off("human")
    question = asked(story)
    assert (question.kind, question.allowed, question.risk) == ("outcome", ("respond", "reject"), "high")
    assert call_id(question.approval) == CALL.call
    assert story.performable() == []


def test_a_humans_yes_completes_the_call_with_the_words_they_gave() -> None:
    story = cut_off("human")
    story.when(decision("respond", comment="receipt 17"))
    (done,) = story.rest()
    assert isinstance(done, ToolCompleted)
    assert (done.text, done.data) == ("receipt 17", {"by": "ann"})


def test_a_humans_no_fails_the_call_as_not_done() -> None:
    story = cut_off("human")
    story.when(decision("reject", comment="no such receipt"))
    assert end(story.rest()) == ("not_done", "ann says that it did not happen: no such receipt")


def test_the_question_to_a_human_expires() -> None:
    story = cut_off("human", expires_seconds=60)
    assert [one.timer for one in story.pending() if isinstance(one, Schedule)] == [OUTCOME_EXPIRY]
    story.when(TimerFired(id="cmd_t", now_ms=NOW + 60_000, timer=OUTCOME_EXPIRY))
    code, _ = end(story.rest())
    assert code == "outcome_unknown"


def test_a_late_outcome_settles_what_a_human_was_asked() -> None:
    story = cut_off("human")
    assert names(story.when(returned(1))) == ["tool.completed"]
    with pytest.raises(Refused) as refused:
        story.when(decision("reject"))
    assert refused.value.code == "already_ended"


def test_a_late_outcome_that_knows_no_more_is_refused() -> None:
    story = cut_off("human")
    assert names(story.when(raised(1, unsure=True))) == ["tool.refused"]
    assert story.state.end is None


def test_a_cancel_closes_the_question_to_the_human() -> None:
    story = cut_off("human")
    code, reason = end(story.when(CANCEL))
    assert (code, reason) == ("outcome_unknown", "canceled by ann before anybody could tell whether it happened")


def test_a_late_word_on_the_first_approval_never_answers_the_second() -> None:
    story = Scenario(TOOL, CALL).given(
        ToolRequested(
            tool="pay", arguments=raw({}), effect="unsafe", owner="agent", role="dev", unknown="human", approval=True
        )
    )
    story.rest(ticket=1)
    first = story.state.approval.request
    story.when(decision("approve"))
    ticket = story.state.ticket
    story.rest(ticket=ticket)
    story.when(TakeOver(id=str(ticket), now_ms=NOW, ticket=ticket))
    story.rest(ticket=ticket)
    for late in (decision("reject", approval=first.approval), decision("reject", digest=first.digest)):
        with pytest.raises(Refused) as refused:
            story.when(late)
        assert refused.value.code == "already_decided"
    with pytest.raises(Refused) as refused:
        story.when(decision("reject"))
    assert refused.value.code == "approval_missing"
    assert asked(story).approval != first.approval
    assert names(story.when(decision("reject", approval=asked(story).approval))) == ["approval.decided"]


# a probe finds out


def test_the_probe_is_performed_by_the_holder_of_the_ticket() -> None:
    story = cut_off("probe")
    assert story.performable() == [Perform(ticket=story.state.ticket, epoch=2, probe=True)]


def test_a_probe_that_finds_it_completes_the_call() -> None:
    story = cut_off("probe")
    assert names(story.when(returned(2, "receipt 17"))) == ["tool.completed"]
    assert names(story.when(returned(1))) == ["tool.refused"]


def test_a_probe_that_does_not_find_it_fails_the_call_as_not_done() -> None:
    assert end(cut_off("probe").when(raised(2, "not_done"))) == ("not_done", "why")


def test_a_probe_that_fails_is_tried_again_and_then_a_human_is_asked() -> None:
    story = cut_off("probe", attempts_max=2)
    (failed,) = story.when(raised(2, "unavailable", retryable=True))
    assert isinstance(failed, ToolAttemptFailed)
    assert (failed.attempt, failed.probe) == (1, True)
    assert story.performable() == []
    again = TimerFired(id="cmd_t", now_ms=failed.retry_at, timer=RETRY)
    assert story.when(again) == [ToolReissued(epoch=3)]
    assert [(one.epoch, one.probe) for one in story.performable()] == [(3, True)]
    assert names(story.when(raised(3, "unavailable", retryable=True))) == ["approval.requested"]
    assert story.performable() == []
    story.when(decision("respond", comment="it is there"))
    assert names(story.rest()) == ["tool.completed"]


def test_a_probe_whose_workers_keep_dying_leaves_it_to_a_human() -> None:
    story = cut_off("probe", takeovers_max=1)
    again = TakeOver(id="2", now_ms=NOW, ticket=story.state.ticket)
    assert story.when(again) == [ToolStarted(epoch=3)]
    assert [(one.epoch, one.probe) for one in story.performable()] == [(3, True)]
    assert names(story.when(returned(2))) == ["tool.refused"]
    assert names(story.when(again)) == ["approval.requested"]


def test_a_late_outcome_settles_the_call_while_it_is_probed() -> None:
    story = cut_off("probe")
    assert names(story.when(returned(1))) == ["tool.completed"]
    (late,) = story.when(returned(2))
    assert isinstance(late, ToolRefused)


def test_a_lost_ticket_of_a_probe_is_reissued() -> None:
    story = cut_off("probe")
    floors = {"tool-local": story.state.ticket}
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors=floors)) == [ToolReissued(epoch=3)]
    assert [one.probe for one in story.performable()] == [True]


def test_a_cancel_ends_a_call_that_is_probed() -> None:
    story = cut_off("probe")
    code, _ = end(story.when(CANCEL))
    assert code == "outcome_unknown"
    assert story.pending() == []


@pytest.mark.parametrize("policy", ["model", "human", "probe"])
def test_a_cancel_in_the_middle_asks_nobody_and_leaves_the_call_open_for_its_late_outcome(policy: str) -> None:
    story = started(policy)
    assert story.when(CANCEL) == [ToolOutcomeUnknown(epoch=1, reason="canceled by ann")]
    assert story.rest(ticket=1) == []
    assert story.pending() == []
    assert story.when(CANCEL) == []
    assert names(story.when(returned(1))) == ["tool.completed"]


def test_an_unsafe_call_whose_ticket_was_lost_before_it_began_is_issued_again_and_then_begins() -> None:
    request = ToolRequested(tool="pay", arguments=raw({}), effect="unsafe", owner="agent", role="dev", unknown="model")
    story = Scenario(TOOL, CALL).given(request)
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={"tool-local": 1})) == [ToolReissued(epoch=2)]
    assert story.performable() == []
    assert story.rest(ticket=2) == [ToolStarted(epoch=2)]
    assert [one.epoch for one in story.performable()] == [2]
    assert names(story.when(TakeOver(id="2", now_ms=NOW, ticket=2))) == ["tool.failed"]
