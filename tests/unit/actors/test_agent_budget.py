"""An agent under a budget: it reserves before each call, asks when its slice is too small, and waits holding nothing."""

from typing import Any

import msgspec

from actors import budget
from actors.agent import AGENT, RETRY
from actors.agent_budget import TakeGrant
from actors.agent_model import ModelAnswered, ModelRaised
from actors.decider import Cancel, Nudge, Pause, Resume, Schedule, TakeOver, TimerFired, Want
from events.agent import (
    AgentCanceled,
    AgentRequested,
    ModelFailed,
    ModelRequested,
    ModelTakenOver,
    Text,
    ToolUse,
)
from events.budget import Amount, BudgetAsked, BudgetOverdrawn, BudgetReceived, Grant, Rate
from events.fact import Usage
from events.run import ToolSpec
from events.tool import ToolCompleted
from tests.unit.actors.scenario import AGENT as ADDRESS
from tests.unit.actors.scenario import NOW, Scenario, names

TOOLS = {"read_file": ToolSpec("read"), "write_file": ToolSpec("idempotent", writes=True), "finish": ToolSpec("read")}
USED = Usage(input_tokens=50, output_tokens=50, cost_micros=900, model_calls=1)


def agent(grant: Grant | None, **more: Any) -> Scenario:
    request = AgentRequested(
        step="stp_a",
        key="a",
        role="dev",
        attempt=1,
        brief="x" * 300,
        definition="0" * 64,
        model="m",
        tools=TOOLS,
        grant=grant,
        rate=Rate(overhead=100, input=3.0, output=15.0),
        **more,
    )
    story = Scenario(AGENT, ADDRESS).given(request)
    story.rest(ticket=1)
    return story


def answer(story: Scenario, *calls: str, usage: Usage = USED) -> list[Any]:
    content = tuple(ToolUse(id=f"t{n}", name=name, arguments=msgspec.Raw(b"{}")) for n, name in enumerate(calls))
    model = story.state.model
    command = ModelAnswered(
        id=f"cmd_m{story.seq}",
        now_ms=NOW,
        turn=model.turn,
        epoch=model.epoch,
        content=content or (Text("hm"),),
        stop="tool_use",
        model="m",
        usage=usage,
    )
    return [*story.when(command), *story.rest()]


def create(story: Scenario) -> int:
    """Create the calls it wants, and complete them."""
    made = story.wanted()
    for one in made:
        story.given(one.fact, address=one.address)
        story.given(ToolCompleted(epoch=1, text="ok", data={"summary": "done"}), address=one.address)
    return len(made)


def last(story: Scenario, type_: type[Any]) -> Any:
    return next(fact for fact in story.rest() if isinstance(fact, type_))


def grant(story: Scenario, new: Grant) -> list[Any]:
    command = TakeGrant(id=f"cmd_grant-{story.state.asking}", now_ms=NOW, asked=story.state.asking, grant=new)
    return [*story.when(command), *story.rest()]


def test_without_a_budget_nothing_is_reserved_and_nothing_asked() -> None:
    story = agent(None)
    assert story.state.model.reserve is None
    assert story.state.model.tokens_max == 0
    answer(story, "read_file")
    assert story.state.usage.tool_calls == 0


def test_a_model_call_reserves_its_worst_case_and_the_answer_settles_it() -> None:
    story = agent(Grant(tokens=20_200))
    assert story.state.model.reserve == Amount(tokens=20_200, cost_micros=600 + 20_000 * 15, model_calls=1)
    assert story.state.model.tokens_max == 20_000
    answer(story, "read_file")
    assert budget.left(story.state.grant, budget.spent(story.state.usage)) == Grant(tokens=20_100)


def test_a_slice_that_is_too_small_is_asked_about_and_given_back_but_for_what_was_used() -> None:
    story = agent(Grant(model_calls=1, tokens=50_000))
    answer(story, "read_file")
    create(story)
    (asked,) = story.rest()
    assert isinstance(asked, BudgetAsked)
    assert asked.usage.model_calls == 1
    assert asked.usage.tool_calls == 1
    assert asked.need.model_calls == 1
    assert AGENT.route(story.state, asked) == "run"
    assert story.state.grant == Grant(model_calls=1, tokens=100)
    assert story.rest() == []
    assert story.pending() == []


def test_a_grant_lets_it_go_on_and_counts_once() -> None:
    story = agent(Grant(model_calls=0))
    assert story.state.asking
    asked = story.state.asking
    facts = grant(story, Grant(model_calls=1))
    assert names(facts) == ["budget.received", "model.requested"]
    assert story.when(TakeGrant(id="cmd_again", now_ms=NOW, asked=asked, grant=Grant(model_calls=9))) == []


def test_an_agent_that_waits_is_not_issued_again_by_the_watch() -> None:
    story = agent(Grant(model_calls=0))
    assert story.when(Nudge(id="cmd_n", now_ms=NOW, floors={"start-dev": 99, "agent-dev": 99, "run": 99})) == []


def test_an_agent_that_waits_can_be_canceled() -> None:
    story = agent(Grant(model_calls=0))
    facts = [*story.when(Cancel(id="cmd_c", now_ms=NOW, by="ann")), *story.rest()]
    assert isinstance(facts[-1], AgentCanceled)


def test_an_agent_paused_and_resumed_while_it_waits_begins_when_the_grant_comes() -> None:
    story = agent(Grant(model_calls=0))
    story.when(Pause(id="cmd_p", now_ms=NOW, by="ann"))
    story.when(Resume(id="cmd_q", now_ms=NOW, by="ann"))
    assert names(grant(story, Grant(model_calls=1))) == ["budget.received", "model.requested"]


def test_tool_calls_are_made_as_far_as_the_slice_goes_and_the_rest_is_asked_for() -> None:
    story = agent(Grant(tool_calls=2))
    answer(story, "read_file", "read_file", "read_file")
    assert create(story) == 2
    assert [one for one in story.pending() if isinstance(one, Want)] == []
    (asked,) = story.rest()
    assert isinstance(asked, BudgetAsked)
    assert asked.need.tool_calls == 1
    facts = grant(story, Grant(tool_calls=5))
    assert names(facts) == ["budget.received"]
    assert create(story) == 1
    assert names(story.rest()) == ["model.requested"]


def test_the_call_that_ends_the_work_is_free() -> None:
    story = agent(Grant(tool_calls=0))
    answer(story, "finish")
    assert create(story) == 1
    assert names(story.rest()) == ["agent.succeeded"]
    assert story.state.end.usage.tool_calls == 0


def test_use_above_the_reservation_is_told_and_taken_from_the_slice() -> None:
    story = agent(Grant(tokens=4_500, model_calls=9))
    facts = answer(story, "read_file", usage=Usage(input_tokens=4_600, model_calls=1))
    assert names(facts)[:2] == ["model.responded", "budget.overdrawn"]
    overdrawn = next(fact for fact in facts if isinstance(fact, BudgetOverdrawn))
    assert overdrawn.over == Amount(tokens=100)
    create(story)
    assert isinstance(story.rest()[0], BudgetAsked)


def test_a_call_lost_with_its_worker_is_charged_as_its_reservation() -> None:
    story = agent(Grant(tokens=100_000))
    reserve = story.state.model.reserve
    ticket = story.state.model.ticket
    (taken,) = story.when(TakeOver(id="cmd_t", now_ms=NOW, ticket=ticket))
    assert isinstance(taken, ModelTakenOver)
    assert budget.spent(taken.usage) == reserve
    assert budget.spent(story.state.usage) == reserve


def test_a_lost_call_that_the_slice_does_not_hold_twice_is_asked_about_before_it_runs_again() -> None:
    story = agent(Grant(model_calls=1))
    facts = story.when(TakeOver(id="cmd_t", now_ms=NOW, ticket=story.state.model.ticket))
    facts += story.rest()
    assert names(facts) == ["model.failed", "budget.asked"]
    assert isinstance(facts[0], ModelFailed)
    assert facts[0].usage.model_calls == 1
    facts = grant(story, Grant(model_calls=2))
    assert names(facts) == ["budget.received", "model.requested"]
    assert isinstance(facts[1], ModelRequested)
    assert facts[1].attempt == 2


def test_a_failed_call_frees_its_reservation_and_its_retry_draws_anew() -> None:
    story = agent(Grant(model_calls=1))
    model = story.state.model
    raised = ModelRaised(
        id="cmd_r", now_ms=NOW, turn=1, epoch=1, kind="back_off", code="busy", reason="529", usage=Usage(model_calls=1)
    )
    story.when(raised)
    (timer,) = [one for one in story.pending() if isinstance(one, Schedule)]
    fired = TimerFired(id="cmd_f", now_ms=timer.at_ms, timer=RETRY)
    (asked,) = story.when(fired)
    assert isinstance(asked, BudgetAsked)
    story.now = timer.at_ms
    assert story.when(TimerFired(id="cmd_g", now_ms=timer.at_ms, timer=RETRY)) == []
    assert model.attempt == 1


def test_after_the_wall_time_no_model_call_is_asked_for() -> None:
    story = agent(Grant(until=NOW))
    assert story.state.asking
    facts = grant(story, Grant(until=NOW + 1))
    assert isinstance(facts[0], BudgetReceived)
    assert isinstance(facts[1], ModelRequested)
