"""An agent: it asks the model, goes on when every call has its end, and concludes when what it must leave is there."""

from typing import Any

import msgspec
import pytest

from actors.agent import AGENT, RETRY
from actors.agent_model import ModelAnswered, ModelRaised
from actors.decider import Cancel, Create, Nudge, Schedule, Send, TakeOver, TimerFired
from actors.model import ToolResult
from events.agent import (
    AgentCanceled,
    AgentChecking,
    AgentFailed,
    AgentRequested,
    AgentSucceeded,
    FromBrief,
    FromCall,
    FromEngine,
    ModelFailed,
    ModelRefused,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
    Text,
    ToolUse,
)
from events.fact import File, Usage
from events.run import Limits, ToolSpec
from events.tool import ToolCompleted, ToolFailed, ToolRequested
from tests.unit.actors.scenario import AGENT as ADDRESS
from tests.unit.actors.scenario import NOW, Scenario, names, raw

TOOLS = {
    "read_file": ToolSpec("read"),
    "write_file": ToolSpec("idempotent", writes=True),
    "deploy": ToolSpec("unsafe", risky=True),
    "finish": ToolSpec("read"),
    "submit_verdict": ToolSpec("read"),
}


def agent(**more: Any) -> Scenario:
    request = AgentRequested(
        step="stp_a",
        key="backend",
        role="dev",
        attempt=1,
        brief="do it",
        definition="0" * 64,
        model="m",
        tools=TOOLS,
        **more,
    )
    return Scenario(AGENT, ADDRESS).given(request)


def begun(**more: Any) -> Scenario:
    story = agent(**more)
    story.rest(ticket=1)
    return story


def answer(
    story: Scenario, *uses: tuple[str, dict[str, Any]], text: str = "", epoch: int = 1, stop: Any = None
) -> list[Any]:
    blocks: list[Any] = [Text(text)] if text else []
    blocks += [ToolUse(id=f"use_{place}", name=name, arguments=raw(given)) for place, (name, given) in enumerate(uses)]
    command = ModelAnswered(
        id="cmd_m",
        now_ms=NOW + story.seq,
        turn=story.state.turn,
        epoch=epoch,
        content=tuple(blocks),
        stop=stop or ("tool_use" if uses else "end_turn"),
        model="m",
        usage=Usage(input_tokens=10, output_tokens=5),
    )
    return story.when(command)


def create(story: Scenario) -> list[Create]:
    """Make the calls that the agent wants now, as its hand-overs do."""
    wanted = story.wanted()
    for one in wanted:
        story.given(one.fact, to=one.to, address=one.address)
    return wanted


def end(story: Scenario, made: Create, *, failed: bool = False, **more: Any) -> None:
    fact = (
        ToolFailed(epoch=1, code="oops", reason="it broke")
        if failed
        else ToolCompleted(epoch=1, text=more.pop("text", "done"), **more)
    )
    story.given(fact, to="agent-dev", address=made.address)


def use(story: Scenario, *uses: tuple[str, dict[str, Any]], **more: Any) -> list[Create]:
    answer(story, *uses)
    made = create(story)
    for one in made:
        end(story, one, **more)
    return made


def test_it_begins_with_its_brief() -> None:
    story = agent()
    assert story.rest(ticket=1) == [ModelRequested(turn=1, takes=(FromBrief(),))]
    assert [message.blocks for message in story.state.messages] == [(Text("do it"),)]


def test_calls_of_one_answer_run_together_if_they_only_read() -> None:
    story = begun()
    answer(story, ("read_file", {"path": "a"}), ("read_file", {"path": "b"}))
    made = create(story)
    assert len(made) == 2
    assert create(story) == []
    end(story, made[0])
    assert story.rest(ticket=9) == []
    end(story, made[1])
    (asked,) = story.rest(ticket=9)
    assert isinstance(asked, ModelRequested)
    assert [type(item) for item in asked.takes] == [FromCall, FromCall]
    assert [block.use for block in story.state.messages[-1].blocks] == ["use_0", "use_1"]


def test_a_call_that_may_write_runs_alone_and_in_order() -> None:
    story = begun()
    answer(story, ("read_file", {}), ("write_file", {"n": 1}), ("write_file", {"n": 2}), ("read_file", {}))
    seen: list[list[str]] = []
    while made := create(story):
        seen.append([made_one.fact.tool for made_one in made if isinstance(made_one.fact, ToolRequested)])
        for one in made:
            end(story, one)
    assert seen == [["read_file"], ["write_file"], ["write_file"], ["read_file"]]


def test_a_tool_outside_the_allowlist_is_asked_for_and_denied() -> None:
    story = begun()
    answer(story, ("rm_rf", {}))
    request = create(story)[0].fact
    assert isinstance(request, ToolRequested)
    assert "may not use 'rm_rf'" in request.denied


def test_a_risky_tool_waits_for_an_approval_unless_the_run_says_auto() -> None:
    for approve, waits in (("risky", True), ("auto", False)):
        story = begun(approve=approve)
        answer(story, ("deploy", {}))
        request = create(story)[0].fact
        assert isinstance(request, ToolRequested)
        assert request.approval is waits


def test_finish_ends_the_work_when_what_it_must_leave_is_there() -> None:
    story = begun(expects=("docs/a.md",))
    use(story, ("finish", {}))
    facts = story.rest(ticket=9)
    assert isinstance(facts[0], ModelRequested)
    assert isinstance(facts[0].takes[-1], FromEngine)
    assert "docs/a.md" in facts[0].takes[-1].text
    use(story, ("write_file", {}), changes={"docs/a.md": (None, File("f" * 64, size=3))})
    story.rest(ticket=9)
    use(story, ("finish", {}), data={"summary": "all done"})
    (ended,) = story.rest(ticket=9)
    assert isinstance(ended, AgentSucceeded)
    assert ended.summary == "all done"
    assert [artifact.name for artifact in ended.artifacts] == ["docs/a.md"]
    assert ended.usage.input_tokens == 30


def test_finish_beside_a_failed_call_does_not_end_the_work() -> None:
    story = begun()
    answer(story, ("read_file", {}), ("finish", {}))
    made = create(story)
    end(story, made[0], failed=True)
    end(story, made[1])
    assert names(story.rest(ticket=9)) == ["model.requested"]


def test_changes_of_several_calls_fold_into_one_and_what_was_undone_is_none() -> None:
    story = begun()
    one, two = File("1" * 64), File("2" * 64)
    use(story, ("write_file", {}), changes={"a": (None, one), "b": (None, one)})
    story.rest(ticket=9)
    use(story, ("write_file", {}), changes={"a": (one, two), "b": (one, None)})
    assert story.state.changes == {"a": (None, two)}
    assert story.state.files == {"a": two}


def test_the_engine_checks_the_work_and_sends_it_back_with_the_output() -> None:
    story = begun(validate=(("true",), ("false",)), limits=Limits(validation_rounds_max=2))
    for round_ in (1, 2):
        use(story, ("finish", {}))
        (checking,) = story.rest(ticket=9)
        assert isinstance(checking, AgentChecking)
        assert checking.round == round_
        passes, fails = create(story)
        end(story, passes, data={"exit_code": 0})
        end(story, fails, text="boom", data={"exit_code": 1})
        facts = story.rest(ticket=9)
    assert isinstance(facts[0], AgentFailed)
    assert facts[0].code == "validation"
    assert "boom" in facts[0].reason
    texts = [block.text for message in story.state.messages for block in message.blocks if isinstance(block, Text)]
    assert "$ false\nboom" in texts


def test_a_model_without_an_answer_to_a_failed_validation_fails_for_the_validation() -> None:
    story = begun(validate=(("make", "test"),))
    use(story, ("finish", {}))
    story.rest(ticket=9)
    (check,) = create(story)
    end(story, check, text="2 tests failed", data={"exit_code": 1})
    story.rest(ticket=9)
    nothing = ModelRaised(id="cmd_1", now_ms=NOW, turn=2, epoch=1, kind="never", code="unscripted", reason="no line")
    story.when(nothing)
    (fact,) = story.rest(ticket=9)
    assert isinstance(fact, AgentFailed)
    assert (fact.code, fact.final) == ("validation", False)
    assert fact.reason.startswith("$ make test\n2 tests failed")
    assert "no line" in fact.reason


@pytest.mark.parametrize(("kind", "final"), [("never", True), ("back_off", False)])
def test_another_attempt_can_help_only_where_time_may_bring_an_answer(kind: Any, final: bool) -> None:
    story = begun(limits=Limits(model_attempts_max=1 if kind == "back_off" else 8))
    story.when(ModelRaised(id="cmd_1", now_ms=NOW, turn=1, epoch=1, kind=kind, code="x", reason="y"))
    (fact,) = story.rest(ticket=9)
    assert isinstance(fact, AgentFailed)
    assert fact.final is final


def test_a_gate_reads_its_checks_first_and_cannot_pass_over_a_failing_one() -> None:
    story = agent(gate=True, validate=(("check",),))
    assert names(story.rest(ticket=1)) == ["agent.checking"]
    end(story, create(story)[0], text="1 failed", data={"exit_code": 1})
    assert names(story.rest(ticket=9)) == ["model.requested"]
    use(story, ("submit_verdict", {}), data={"passed": True, "summary": "fine"})
    (ended,) = story.rest(ticket=9)
    assert isinstance(ended, AgentSucceeded)
    assert ended.verdict is not None
    assert not ended.verdict.passed
    assert "1 failed" in ended.verdict.findings[0].message


def test_words_without_a_call_are_answered_with_what_to_do_and_the_turns_are_limited() -> None:
    story = begun(limits=Limits(turns_max=2))
    answer(story, text="hello")
    assert names(story.rest(ticket=9)) == ["model.requested"]
    answer(story, text="hello again")
    (ended,) = story.rest(ticket=9)
    assert isinstance(ended, AgentFailed)
    assert ended.code == "turns_max"


def test_a_model_that_fails_is_asked_again_by_a_timer_and_then_given_up() -> None:
    story = begun()
    raised = ModelRaised(
        id="cmd_e", now_ms=NOW, turn=1, epoch=1, kind="retry_after", code="429", reason="slow", retry_after_ms=7000
    )
    (failed,) = story.when(raised)
    assert isinstance(failed, ModelFailed)
    assert failed.retry_at == NOW + 7000
    assert story.performable() == []
    assert [one.at_ms for one in story.pending() if isinstance(one, Schedule)] == [NOW + 7000]
    assert story.when(TimerFired(id="cmd_t", now_ms=NOW + 6999, timer=RETRY)) == []
    assert story.when(TimerFired(id="cmd_t", now_ms=NOW + 7000, timer=RETRY)) == [ModelRequested(turn=1, attempt=2)]
    assert story.state.model is not None
    assert story.state.model.queue == "agent-dev"
    assert len(story.state.messages) == 1
    epoch = story.state.model.epoch
    story.when(
        ModelRaised(id="cmd_f", now_ms=NOW, turn=1, epoch=epoch, kind="never", code="no_money", reason="paid up?")
    )
    (ended,) = story.rest(ticket=9)
    assert isinstance(ended, AgentFailed)
    assert (ended.code, ended.final) == ("no_money", True)


def test_a_taken_over_call_fences_the_old_performer_off() -> None:
    story = agent()
    story.given(ModelRequested(turn=1, takes=(FromBrief(),)), to="-", causation="1")
    assert [(one.ticket, one.epoch) for one in story.performable()] == [(1, 1)]
    assert story.when(TakeOver(id="1", now_ms=NOW, ticket=1)) == [ModelTakenOver(turn=1, epoch=2)]
    (refused,) = answer(story, text="late", epoch=1)
    assert isinstance(refused, ModelRefused)
    assert names(answer(story, ("finish", {}), epoch=2)) == ["model.responded"]
    assert answer(story, ("finish", {}), epoch=2) == []


def test_a_lost_ticket_is_reissued_and_a_living_one_is_not() -> None:
    story = agent()
    story.given(ModelRequested(turn=1, takes=(FromBrief(),)), to="-", causation="1")
    assert story.when(Nudge(id="cmd_a", now_ms=NOW, floors={"start-dev": 0, "agent-dev": 9})) == []
    assert story.when(Nudge(id="cmd_b", now_ms=NOW, floors={"start-dev": 1})) == [ModelReissued(turn=1, epoch=2)]
    assert story.performable()[0].ticket == story.seq


def test_an_agent_that_waits_in_its_queue_stays_there_when_nudged_and_a_lost_start_is_reissued() -> None:
    story = agent()
    assert story.when(Nudge(id="cmd_a", now_ms=NOW, floors={"start-dev": 0})) == []
    facts = story.when(Nudge(id="cmd_b", now_ms=NOW, floors={"start-dev": 1}))
    assert names(facts) == ["agent.reissued"]
    assert (story.state.ticket, story.state.queue) == (2, "start-dev")


def test_a_cancel_stops_the_calls_refuses_the_answer_and_ends_when_all_have_ended() -> None:
    story = begun()
    answer(story, ("read_file", {}), ("read_file", {}))
    made = create(story)
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    stops = [one for one in story.pending() if isinstance(one, Send)]
    assert [one.verb for one in stops] == ["cancel", "cancel"]
    assert story.rest() == []
    for one in made:
        end(story, one)
    (ended,) = story.rest()
    assert isinstance(ended, AgentCanceled)


def test_an_answer_that_comes_after_a_cancel_is_refused_and_recorded() -> None:
    story = begun()
    story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann"))
    assert story.performable() == []
    (refused,) = answer(story, text="late")
    assert isinstance(refused, ModelRefused)


def test_the_prompt_is_a_fold_call_and_result_always_pair() -> None:
    story = begun()
    for _ in range(5):
        use(story, ("read_file", {"path": "x"}), ("read_file", {"path": "y"}))
        story.rest(ticket=9)
    uses = [block.id for message in story.state.messages for block in message.blocks if isinstance(block, ToolUse)]
    results = [
        block.use for message in story.state.messages for block in message.blocks if isinstance(block, ToolResult)
    ]
    assert uses == results
    roles = [message.role for message in story.state.messages]
    assert roles == ["user", "assistant"] * 5 + ["user"]
    assert isinstance(story.state.answer, ModelResponded)
    assert msgspec.json.decode(story.state.calls[story.state.batch[0]].arguments) == {"path": "x"}
