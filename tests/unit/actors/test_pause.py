"""A pause: what is in flight ends and is stored, nothing new is asked, and a resume goes on exactly where it was."""

from typing import Any

import pytest

from actors.agent import RETRY
from actors.agent_model import ModelRaised
from actors.decider import Advance, Cancel, Nudge, Pause, Refused, Resume, Send, TakeOver, Terminate, TimerFired
from actors.run import RUN
from events.agent import AgentCanceled, AgentResumed, FromBrief, ModelRequested, ModelTakenOver
from events.run import RunCanceled
from tests.unit.actors.scenario import NOW, Scenario, names
from tests.unit.actors.test_agent import agent, answer, begun, create, end
from tests.unit.actors.test_run import done, run, step
from tests.unit.actors.test_run import end as end_step


def pause(story: Scenario, at: int = 0, id_: str = "cmd_p") -> list[str]:
    return names([*story.when(Pause(id=id_, now_ms=NOW, by="ann", at=at)), *story.rest()])


def resume(story: Scenario, at: int = 0, id_: str = "cmd_r") -> list[str]:
    return names([*story.when(Resume(id=id_, now_ms=NOW, by="ann", at=at)), *story.rest()])


def sends(story: Scenario) -> list[tuple[str, Any]]:
    return [(one.verb, one.body.get("at")) for one in story.pending() if isinstance(one, Send)]


def test_a_paused_run_tells_its_open_agents_and_starts_nothing_until_it_is_resumed() -> None:
    story = run(step("a"), step("b"), step("c", "a"))
    assert pause(story) == ["run.paused"]
    at = story.seq
    assert sends(story) == [("pause", at), ("pause", at)]
    assert [one.address.step for one in story.wanted()] == [step_.actor for step_ in story.state.open_steps()]
    assert names(done(story, "a")) == ["step.succeeded"]
    assert pause(story, id_="cmd_again") == []
    assert resume(story) == ["run.resumed", "step.started"]
    assert sends(story) == [("resume", story.state.held_seq)]
    assert resume(story, id_="cmd_again") == []


def test_all_steps_done_while_paused_the_run_succeeds_when_it_is_resumed() -> None:
    story = run(step("a"))
    pause(story)
    assert names(done(story, "a")) == ["step.succeeded"]
    assert resume(story) == ["run.resumed", "run.succeeded"]


def test_a_pause_after_the_end_is_refused_with_the_end() -> None:
    story = run(step("a"))
    done(story, "a")
    for command in (Pause, Resume):
        with pytest.raises(Refused) as refused:
            story.when(command(id="cmd_p", now_ms=NOW, by="ann"))
        assert refused.value.code == "run_ended"
        assert refused.value.recorded == story.state.end


def test_a_paused_run_can_be_canceled_and_then_not_be_resumed() -> None:
    story = run(step("a"))
    pause(story)
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    assert sends(story) == [("cancel", None)]
    with pytest.raises(Refused) as refused:
        resume(story)
    assert refused.value.code == "canceling"
    assert names(end_step(story, "a", AgentCanceled(by="ann"))) == ["step.canceled", "run.canceled"]


def test_a_terminated_run_is_canceled_at_once_and_still_tells_what_is_open() -> None:
    story = run(step("a"), step("b"))
    facts = story.when(Terminate(id="cmd_t", now_ms=NOW, by="ann", reason="now"))
    assert facts == [RunCanceled(by="ann", reason="now")]
    assert sends(story) == [("cancel", None), ("cancel", None)]
    assert story.when(Terminate(id="cmd_u", now_ms=NOW, by="bob")) == []


def test_an_end_that_leaves_agents_open_is_a_notice_to_the_run_and_another_is_none() -> None:
    story = run(step("a"))
    assert RUN.route(story.state, RunCanceled(by="ann")) == "run"
    story = run(step("a"))
    facts = done(story, "a")
    assert names(facts)[-1] == "run.succeeded"
    assert RUN.route(story.state, facts[-1]) == "-"


def test_a_paused_agent_stores_its_answer_and_makes_the_calls_when_it_is_resumed() -> None:
    story = begun()
    assert pause(story, at=7) == ["agent.paused"]
    assert names(answer(story, ("read_file", {}), ("read_file", {}))) == ["model.responded"]
    assert story.rest() == []
    assert create(story) == []
    assert resume(story, at=9) == ["agent.resumed"]
    assert len(create(story)) == 2


def test_a_call_that_ends_while_paused_is_taken_in_after_the_resume() -> None:
    story = begun()
    answer(story, ("read_file", {}))
    (made,) = create(story)
    pause(story, at=7)
    end(story, made)
    assert story.rest(ticket=story.seq) == []
    assert resume(story, at=9) == ["agent.resumed", "model.requested"]


def test_words_that_come_in_the_wrong_order_leave_the_agent_as_the_newer_one_says() -> None:
    story = begun()
    assert resume(story, at=9) == ["agent.resumed"]
    assert pause(story, at=7) == []
    assert not story.state.paused
    assert pause(story, at=11) == ["agent.paused"]


def test_a_backoff_that_is_over_while_paused_is_tried_again_at_the_resume() -> None:
    story = begun()
    raised = ModelRaised(id="cmd_x", now_ms=NOW, turn=1, epoch=1, kind="back_off", code="overloaded", reason="529")
    story.when(raised)
    pause(story, at=7)
    due = story.state.model.retry_at
    assert story.when(TimerFired(id="cmd_t", now_ms=due, timer=RETRY)) == []
    early = story.when(Resume(id="cmd_r", now_ms=NOW, by="ann", at=9))
    assert names([*early, *story.rest()]) == ["agent.resumed"]
    assert names(story.when(Advance(id="go", now_ms=due))) == ["model.requested"]


def test_a_call_in_flight_is_taken_over_while_paused() -> None:
    story = begun()
    pause(story, at=7)
    (asked,) = story.performable()
    taken = story.when(TakeOver(id="8", now_ms=NOW, ticket=asked.ticket))
    assert taken == [ModelTakenOver(turn=1, epoch=2)]


def test_an_agent_paused_in_its_queue_gets_a_new_place_there_and_the_watch_reissues_nothing() -> None:
    story = agent()
    pause(story, at=7)
    assert story.rest(ticket=1) == []
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={"start-dev": 99})) == []
    facts = story.when(Resume(id="cmd_r", now_ms=NOW, by="ann", at=9))
    assert isinstance(facts[0], AgentResumed)
    assert story.rest() == []
    assert story.state.queue == "start-dev"
    assert story.state.ticket == story.seq
    assert names(story.rest(ticket=story.seq)) == ["model.requested"]


def test_an_agent_resumed_while_it_stands_in_its_queue_begins_by_its_first_place_there_and_is_not_reissued() -> None:
    story = agent()
    assert resume(story, at=9) == ["agent.resumed"]
    story.given(ModelRequested(turn=1, takes=(FromBrief(),)), to="-", causation="1")
    assert [one.ticket for one in story.performable()] == [1]
    floors = {"start-dev": 0, "agent-dev": 99}
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors=floors)) == []


def test_a_paused_agent_can_be_canceled() -> None:
    story = begun()
    pause(story, at=7)
    facts = [*story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann")), *story.rest()]
    assert names(facts) == ["agent.cancel_requested", "agent.canceled"]
    assert pause(story, at=9) == []
