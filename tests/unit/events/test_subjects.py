"""The grammar of subjects: what is built is what is parsed, and a scope holds exactly its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import subjects
from events.ids import InvalidToken
from events.memory import matches
from events.subjects import Address

TOKENS = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,63}", fullmatch=True)
ADDRESSES = st.builds(Address, TOKENS, TOKENS, st.just("-") | TOKENS, st.just("-") | TOKENS)
NAMES = st.sampled_from(["run.requested", "tool.completed", "approval.requested"])


def holds(scope: str, subject: str) -> bool:
    return matches(tuple(scope.split(".")), tuple(subject.split(".")))


@given(ADDRESSES, NAMES, TOKENS)
def test_a_facts_subject_is_parsed_back(address: Address, name: str, to: str) -> None:
    assert subjects.parse_fact(subjects.fact_subject(address, name, to)) == (address, name, to)


@given(ADDRESSES, TOKENS)
def test_a_commands_subject_is_parsed_back(address: Address, verb: str) -> None:
    assert subjects.parse_command(subjects.command_subject(address, verb)) == (address, verb)


@given(ADDRESSES, ADDRESSES, NAMES)
def test_a_fence_holds_its_own_actors_facts_alone(mine: Address, other: Address, name: str) -> None:
    assert holds(mine.fence, subjects.fact_subject(mine, name, "-"))
    assert holds(mine.fence, subjects.fact_subject(other, name, "-")) == (mine == other)


def test_the_scope_of_an_agent_holds_its_calls_and_that_of_a_run_only_itself() -> None:
    run = Address("w", "r")
    agent, call = run.at("s"), run.at("s", "c")
    assert [(each.kind) for each in (run, agent, call, run.at(call="c"))] == ["run", "agent", "tool", "tool"]
    subject = subjects.fact_subject(call, "tool.completed", "agent-x")
    assert holds(agent.scope, subject)
    assert holds(call.scope, subject)
    assert not holds(run.scope, subject)
    assert holds(subjects.run_scope("w", "r"), subject)
    assert holds(subjects.workspace_scope("w"), subject)
    assert holds(subjects.call_anywhere("w", "c"), subject)
    assert not holds(subjects.call_anywhere("v", "c"), subject)
    assert holds(subjects.EVERY_FACT, subject)
    assert not holds(subjects.EVERY_COMMAND, subject)


@given(ADDRESSES, NAMES, TOKENS, TOKENS)
def test_a_work_queue_holds_what_is_addressed_to_it(address: Address, name: str, to: str, other: str) -> None:
    subject = subjects.fact_subject(address, name, to)
    assert holds(subjects.work_filter(to), subject)
    assert holds(subjects.work_filter(other), subject) == (to == other)


@pytest.mark.parametrize(
    "subject",
    ["", "cb", "cb.w.evt.r.s.c.k.f", "cb.w.evt.r.s.c.k.f.to.more", "cb.w.cmd.r.s.c.k.f.to", "xx.w.evt.r.s.c.k.f.to"],
)
def test_another_grammar_is_not_a_fact(subject: str) -> None:
    with pytest.raises(ValueError, match="not a fact"):
        subjects.parse_fact(subject)


@pytest.mark.parametrize(
    "subject", ["", "cb.w.cmd.r.s.c", "cb.w.cmd.r.s.c.v.more", "cb.w.evt.r.s.c.v", "xx.w.cmd.r.s.c.v"]
)
def test_another_grammar_is_not_a_command(subject: str) -> None:
    with pytest.raises(ValueError, match="not a command"):
        subjects.parse_command(subject)


@pytest.mark.parametrize("field", ["workspace", "run", "step", "call"])
@pytest.mark.parametrize("value", ["*", ">", "a.b", ""])
def test_an_address_that_reaches_elsewhere_is_refused_by_field(field: str, value: str) -> None:
    tokens = {"workspace": "w", "run": "r", "step": "s", "call": "c"} | {field: value}
    with pytest.raises(InvalidToken) as refused:
        subjects.check_address(Address(**tokens))
    assert refused.value.field == field


def test_deltas_are_parsed_back_to_their_agent() -> None:
    agent = Address("w", "r", "s")
    assert subjects.parse_delta(subjects.delta_subject(agent)) == agent
    with pytest.raises(ValueError, match="not a delta"):
        subjects.parse_delta("cb.w.evt.r.s")


def test_the_republish_target_takes_the_workspace_over() -> None:
    assert subjects.LIVE_TARGET == "live.cb.{{wildcard(1)}}.evt.>"


@pytest.mark.parametrize("subject", ["_INBOX.abc.1", "answers", "a-b_c.d", "x" * 256])
def test_an_outsider_is_answered_on_a_subject_of_his_own(subject: str) -> None:
    assert subjects.may_answer_on(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "cb.default.cmd.r.-.-.cancel",
        "$JS.API.INFO",
        "*",
        "a.*",
        "a.>",
        ">",
        "a..b",
        ".a",
        "a.",
        "a b",
        "a\tb",
        "ü",
        "x" * 257,
    ],
)
def test_nobody_is_answered_on_ours_the_servers_or_many_subjects(subject: str) -> None:
    assert not subjects.may_answer_on(subject)
