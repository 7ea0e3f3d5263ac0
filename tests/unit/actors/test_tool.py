"""A tool call: performed once an epoch, approved by one human, ended once."""

from typing import Any

import pytest

from actors.decider import Advance, Cancel, Nudge, Refused, Schedule, TakeOver, TimerFired, TurnRaised
from actors.tool import TOOL, Decide, ToolRaised, ToolReturned
from actors.tool_approval import EXPIRY
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
)
from tests.unit.actors.scenario import CALL, NOW, Scenario, names, raw


def call(effect: str = "idempotent", **more: Any) -> Scenario:
    request = ToolRequested(
        tool="write_file", arguments=raw({"path": "a"}), effect=effect, owner="agent", role="dev", **more
    )
    return Scenario(TOOL, CALL).given(request)


def returned(epoch: int, text: str = "ok") -> ToolReturned:
    return ToolReturned(id="cmd_r", now_ms=NOW, epoch=epoch, text=text)


def decision(word: Any, **more: Any) -> Decide:
    return Decide(id=f"cmd_{word}-{more.get('by', 'ann')}", now_ms=NOW, decision=word, by=more.pop("by", "ann"), **more)


def test_a_call_is_performed_on_its_own_notice_and_completes_once() -> None:
    story = call()
    assert [(one.ticket, one.epoch) for one in story.performable()] == [(1, 1)]
    assert names(story.when(returned(1))) == ["tool.completed"]
    assert story.pending() == []
    assert story.when(returned(1)) == []


def test_a_late_outcome_of_an_old_epoch_is_refused_and_recorded() -> None:
    story = call()
    assert names(story.when(TakeOver(id="1", now_ms=NOW, ticket=1))) == ["tool.started"]
    assert [one.epoch for one in story.performable()] == [2]
    facts = story.when(returned(1))
    assert isinstance(facts[0], ToolRefused)
    assert "stale_epoch" in facts[0].reason
    assert names(story.when(returned(2))) == ["tool.completed"]


def test_an_outcome_after_the_end_changes_nothing() -> None:
    story = call()
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    before = story.state.end
    assert names(story.when(returned(1))) == ["tool.refused"]
    assert story.state.end == before


@pytest.mark.parametrize("effect", ["keyed", "unsafe"])
def test_a_fenced_effect_starts_in_the_log_before_it_is_performed(effect: str) -> None:
    story = call(effect)
    assert story.performable() == []
    assert story.when(Advance(id="x", now_ms=NOW, ticket=99)) == []
    assert story.rest(ticket=1) == [ToolStarted(epoch=1)]
    assert [one.epoch for one in story.performable()] == [1]


def test_an_unsafe_call_cut_off_in_the_middle_never_runs_again() -> None:
    story = call("unsafe")
    story.rest(ticket=1)
    facts = story.when(TakeOver(id="1", now_ms=NOW, ticket=1))
    assert isinstance(facts[0], ToolFailed)
    assert facts[0].code == "outcome_unknown"
    assert story.performable() == []


def test_a_keyed_call_cut_off_in_the_middle_runs_again_in_a_new_epoch() -> None:
    story = call("keyed")
    story.rest(ticket=1)
    assert story.when(TakeOver(id="1", now_ms=NOW, ticket=1)) == [ToolStarted(epoch=2)]


def test_a_call_taken_over_too_often_fails_and_only_takeovers_count() -> None:
    story = call(takeovers_max=2)
    assert story.when(TakeOver(id="1", now_ms=NOW, ticket=1)) == [ToolStarted(epoch=2)]
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={"tool-local": 9})) == [ToolReissued(epoch=3)]
    ticket = story.state.ticket
    assert story.when(TakeOver(id="2", now_ms=NOW, ticket=ticket)) == [ToolStarted(epoch=4)]
    facts = story.when(TakeOver(id="2", now_ms=NOW, ticket=ticket))
    assert isinstance(facts[0], ToolFailed)
    assert (facts[0].code, facts[0].reason) == ("attempts", "its worker was lost 3 times in the middle")


def test_another_edit_is_not_the_same_decision() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    story.when(decision("edit", arguments=b'{"a":1}'))
    assert story.when(decision("edit", by="bob", arguments=b'{"a":1}')) == []
    with pytest.raises(Refused) as refused:
        story.when(decision("edit", by="bob", arguments=b'{"a":2}'))
    assert refused.value.code == "already_decided"


def test_a_denied_tool_fails_unperformed() -> None:
    story = call(denied="role dev may not use it")
    assert story.performable() == []
    facts = story.rest(ticket=1)
    assert isinstance(facts[0], ToolFailed)
    assert facts[0].code == "not_allowed"


def test_a_risky_call_waits_for_its_approval_and_then_has_a_new_ticket() -> None:
    story = call(approval=True)
    assert names(story.rest(ticket=1)) == ["approval.requested"]
    assert story.pending() == []
    story.when(decision("approve"))
    assert story.state.queue == "tool-local"
    assert [one.ticket for one in story.performable()] == [3]


def test_the_first_decision_wins_and_the_second_is_told_so() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    story.when(decision("approve"))
    assert story.when(decision("approve")) == []
    assert story.when(decision("approve", by="bob")) == [], "it is so already"
    with pytest.raises(Refused, match="ann already decided: approve"):
        story.when(decision("approve", by="bob", comment="words that would be lost"))
    with pytest.raises(Refused) as refused:
        story.when(decision("reject", by="bob"))
    assert refused.value.code == "already_decided"
    assert isinstance(refused.value.recorded, ApprovalDecided)
    assert refused.value.recorded.by == "ann"


def test_a_decision_on_another_call_than_the_one_shown_is_refused() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    with pytest.raises(Refused) as refused:
        story.when(decision("approve", digest="0" * 64))
    assert refused.value.code == "digest_mismatch"


def test_a_rejected_call_fails_with_who_and_why() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    story.when(decision("reject", comment="too early"))
    facts = story.rest(ticket=3)
    assert isinstance(facts[0], ToolFailed)
    assert facts[0].reason == "ann rejected this call: too early"


def test_an_edited_call_is_performed_with_the_new_arguments() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    story.when(decision("edit", arguments=b'{"path":"b"}'))
    assert story.state.arguments == b'{"path":"b"}'
    assert len(story.performable()) == 1


def test_an_approval_expires_by_its_timer_and_a_later_decision_is_refused() -> None:
    story = call(approval=True, expires_seconds=60)
    story.rest(ticket=1)
    timers = [one for one in story.pending() if isinstance(one, Schedule)]
    assert [(one.timer, one.at_ms) for one in timers] == [(EXPIRY, NOW + 60_000)]
    assert story.when(TimerFired(id="cmd_t", now_ms=NOW + 59_999, timer=EXPIRY)) == []
    facts = story.when(TimerFired(id="cmd_t", now_ms=NOW + 60_000, timer=EXPIRY))
    assert isinstance(facts[0], ApprovalExpired)
    with pytest.raises(Refused) as refused:
        story.when(decision("approve"))
    assert refused.value.code == "expired"
    ended = story.rest()
    assert isinstance(ended[0], ToolFailed)
    assert ended[0].code == "expired"


def test_a_decision_after_a_cancel_is_refused() -> None:
    story = call(approval=True)
    story.rest(ticket=1)
    assert names(story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))) == ["tool.canceled"]
    with pytest.raises(Refused) as refused:
        story.when(decision("approve"))
    assert refused.value.code == "already_ended"


def test_a_question_completes_with_its_answer() -> None:
    story = call("read", kind="question")
    asked = story.rest(ticket=1)
    assert isinstance(asked[0], ApprovalRequested)
    assert asked[0].allowed == ("respond", "reject")
    story.when(decision("respond", comment="blue"))
    ended = story.rest(ticket=3)
    assert isinstance(ended[0], ToolCompleted)
    assert ended[0].text == "blue"


def test_a_started_unsafe_call_ends_unknown_by_a_cancel_and_its_late_outcome_settles_it() -> None:
    story = call("unsafe")
    story.rest(ticket=1)
    assert story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann")) == [
        ToolOutcomeUnknown(epoch=1, reason="canceled by ann")
    ]
    assert names(story.when(returned(1))) == ["tool.completed"]


def test_a_lost_ticket_is_reissued_by_the_watch_only() -> None:
    story = call()
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={"tool-local": 0})) == []
    assert story.when(Nudge(id="cmd_m", now_ms=NOW, floors={"tool-local": 1})) == [ToolReissued(epoch=2)]
    assert [(one.ticket, one.epoch) for one in story.performable()] == [(2, 2)]


def test_a_call_whose_turns_keep_failing_is_a_dead_letter() -> None:
    story = call()
    for count in range(5):
        story.when(TurnRaised(id=f"cmd_f{count}", now_ms=NOW, message="1", error="boom"))
    ended = story.rest()
    assert isinstance(ended[0], ToolFailed)
    assert ended[0].code == "dead_letter"


def test_a_failure_is_what_the_model_reads() -> None:
    story = call()
    facts = story.when(ToolRaised(id="cmd_r", now_ms=NOW, epoch=1, code="not_found", reason="no such file"))
    assert facts == [ToolFailed(epoch=1, code="not_found", reason="no such file")]
    assert isinstance(story.state.end, ToolFailed)
    assert not isinstance(story.state.end, ToolCanceled)
