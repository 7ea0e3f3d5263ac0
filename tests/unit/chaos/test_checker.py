"""The checker of the chaos campaigns sees what it is there to see: each invariant broken once, in a history by hand."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from events.agent import AgentRequested, AgentSucceeded, ModelReissued, ModelRequested, ModelResponded, ModelTakenOver
from events.budget import Budget, Grant
from events.envelope import Record
from events.run import RunRequested, RunSucceeded, RunTurnFailed, StepStarted
from events.tool import (
    ApprovalDecided,
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
)
from tests.chaos.checker import Effect, Line, check
from tests.chaos.faults import Fault
from tests.chaos.load import Accepted
from tests.chaos.part import Life
from tests.chaos.takeover import percentile, takeovers
from tests.history import History

ACCEPTED = (Accepted("key", "run_1"),)
NOTHING = msgspec.Raw(b"{}")


def requested(effect: str = "unsafe", *, approval: bool = False, use: str = "use_1") -> ToolRequested:
    tool = {"unsafe": "launch", "keyed": "charge"}.get(effect, "look")
    return ToolRequested(tool=tool, arguments=NOTHING, effect=effect, owner="agent", use=use, approval=approval)


def done(call: str = "call_1", *, kind: str = "unsafe", op: str = "op", what: str = "done") -> Effect:
    return Effect(op=op, effect=f"run_1.{call}", kind=kind, what=what)


def begun() -> History:
    history = History("run_1")
    history.run(RunRequested(goal="g", roles={}, tools={}, model="scripted"))
    history.agent(
        "stp_1", AgentRequested(step="s", key="s", role="r", attempt=1, brief="", definition="", model="", tools={})
    )
    return history


def ended(history: History) -> Sequence[Record]:
    history.agent("stp_1", AgentSucceeded(summary=""))
    history.run(RunSucceeded(summary=""))
    return history.records


def good() -> History:
    history = begun()
    history.call("stp_1", "call_1", requested(approval=True))
    history.call("stp_1", "call_1", approval())
    history.call("stp_1", "call_1", ApprovalDecided(approval="apr_1", decision="approve", by="a"))
    history.call("stp_1", "call_1", ToolStarted(epoch=1))
    history.call("stp_1", "call_1", ToolCompleted(epoch=1, text=""))
    history.call("stp_1", "call_1", ToolRefused(epoch=1, reason=""))
    return history


def approval() -> ApprovalRequested:
    return ApprovalRequested(
        approval="apr_1", kind="tool_call", tool="launch", arguments=NOTHING, digest="", allowed=()
    )


def broken(lines: list[Line]) -> list[str]:
    return [line.name for line in lines if line.broken]


def test_a_good_history_holds() -> None:
    assert broken(check(ended(good()), [done()], ACCEPTED)) == []


def without_approval(history: History) -> None:
    history.call("stp_1", "call_2", requested(approval=True, use="use_2"))
    history.call("stp_1", "call_2", ToolStarted(epoch=1))
    history.call("stp_1", "call_2", ToolFailed(epoch=1, code="outcome_unknown", reason=""))


def started_twice(history: History) -> None:
    history.call("stp_1", "call_2", requested(use="use_2"))
    history.call("stp_1", "call_2", ToolStarted(epoch=1))
    history.call("stp_1", "call_2", ToolStarted(epoch=2))
    history.call("stp_1", "call_2", ToolFailed(epoch=2, code="outcome_unknown", reason=""))


def cut_off_and_canceled(history: History) -> None:
    history.call("stp_1", "call_2", requested(use="use_2"))
    history.call("stp_1", "call_2", ToolStarted(epoch=1))
    history.call("stp_1", "call_2", ToolCanceled(by="a"))


def a_call_made_twice(history: History) -> None:
    history.call("stp_1", "call_2", requested())
    history.call("stp_1", "call_2", ToolCanceled(by="a"))


def done_and_told_as_not_done(history: History) -> None:
    history.call("stp_1", "call_2", requested(use="use_2"))
    history.call("stp_1", "call_2", ToolStarted(epoch=1))
    history.call("stp_1", "call_2", ToolFailed(epoch=1, code="canceled", reason=""))


def two_answers(history: History) -> None:
    for _ in range(2):
        history.agent("stp_1", ModelResponded(turn=1, epoch=1, content=(), stop="end_turn", model="m"))


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (without_approval, "I7 approved before performed"),
        (started_twice, "unknown outcomes are told"),
        (cut_off_and_canceled, "unknown outcomes are told"),
        (a_call_made_twice, "I3 one accepted outcome each"),
        (two_answers, "I3 one accepted outcome each"),
        (lambda history: history.agent("stp_1", ModelReissued(turn=1, epoch=2)), "no reissued tickets"),
        (lambda history: history.run(RunTurnFailed(message="1", error="KeyError")), "no turn raised"),
        (lambda history: history.call("stp_1", "call_9", requested("read", use="use_9")), "I6 nothing stuck"),
        (
            lambda history: history.call("stp_1", "call_1", ToolOutcomeUnknown(epoch=1)),
            "I4 nothing after the end",
        ),
        (lambda history: history.call("stp_1", "call_1", ToolCanceled(by="a")), "I3 one accepted outcome each"),
    ],
)
def test_each_broken_rule_is_named(act: Callable[[History], object], name: str) -> None:
    history = good()
    act(history)
    assert name in broken(check(ended(history), [done()], ACCEPTED))


def test_a_call_that_says_nothing_was_done_is_believed_unless_the_target_knows_better() -> None:
    history = good()
    done_and_told_as_not_done(history)
    records = ended(history)
    assert broken(check(records, [done()], ACCEPTED)) == []
    assert broken(check(records, [done(), done("call_2", op="op2")], ACCEPTED)) == ["unknown outcomes are told"]


def test_the_next_attempt_after_one_that_failed_is_no_lost_ticket() -> None:
    history = good()
    history.call("stp_1", "call_2", requested("read", use="use_2"))
    history.call("stp_1", "call_2", ToolAttemptFailed(epoch=1, attempt=1, code="c", reason="", retry_at=1))
    history.call("stp_1", "call_2", ToolReissued(epoch=2))
    history.call("stp_1", "call_2", ToolCanceled(by="a"))
    assert broken(check(ended(history), [done()], ACCEPTED)) == []


def told_as_not_done(history: History) -> None:
    history.call("stp_1", "call_2", requested(use="use_2"))
    history.call("stp_1", "call_2", ToolStarted(epoch=1))
    history.call("stp_1", "call_2", ToolOutcomeUnknown(epoch=1))
    history.call("stp_1", "call_2", ToolFailed(epoch=1, code="not_done", reason=""))


def test_what_is_told_as_not_done_is_compared_with_the_target() -> None:
    history = good()
    told_as_not_done(history)
    records = ended(history)
    assert broken(check(records, [done()], ACCEPTED)) == []
    assert broken(check(records, [done(), done("call_2", op="op2")], ACCEPTED)) == ["unknown outcomes are told"]


def test_a_run_that_has_not_ended_is_stuck() -> None:
    assert broken(check(begun().records, [], ACCEPTED)) == ["I6 nothing stuck"]


def test_a_gap_in_an_actors_versions_is_seen() -> None:
    records = [one for one in ended(good()) if not isinstance(one.fact, ToolStarted)]
    assert "I1 versions without gaps" in broken(check(records, [done()], ACCEPTED))


@pytest.mark.parametrize(
    ("accepted", "why"),
    [((*ACCEPTED, Accepted("k", "run_2")), "lost"), ((), "nobody"), ((*ACCEPTED, Accepted("key", "run_9")), "2 runs")],
)
def test_lost_and_doubled_runs_are_seen(accepted: tuple[Accepted, ...], why: str) -> None:
    lines = check(ended(good()), [done()], accepted)
    assert broken(lines) == ["accepted runs are in the log"]
    assert any(why in each for line in lines for each in line.broken)


@pytest.mark.parametrize(
    ("effects", "name"),
    [
        ([done(), done(what="asked"), done(what="asked")], "no duplicated effect at the target"),
        ([done(), done()], "no duplicated effect at the target"),
        ([done(), done("call_2", kind="keyed")], "log and target agree"),
        ([done(kind="keyed"), done("call_2", kind="keyed")], "no duplicated effect at the target"),
        ([], "log and target agree"),
    ],
)
def test_the_targets_count_is_compared(effects: list[Effect], name: str) -> None:
    assert name in broken(check(ended(good()), effects, ACCEPTED))


def test_a_takeover_is_timed_from_the_kill_of_who_held_it() -> None:
    history = begun()
    asked = history.agent("stp_1", ModelRequested(turn=1))
    taken = history.agent("stp_1", ModelTakenOver(turn=1, epoch=2))
    records = [msgspec.structs.replace(one, engine=f"callboard/0 host-{pid}") for one, pid in ((asked, 7), (taken, 8))]
    killed = Life("worker-1", 7, 0, ended_ms=taken.time_ms - 200, killed=True)
    (found,) = takeovers(records, [killed], [])
    assert (found.seconds, found.by_node, found.by_worker) == (0.2, False, False)
    node = Fault("kill node", "callboard-1", taken.time_ms - 14_000, taken.time_ms - 13_000)
    stop = Fault("stop worker", "worker-2", taken.time_ms - 100, taken.time_ms)
    (found,) = takeovers(records, [killed], [node, stop])
    assert (found.by_node, found.by_worker) == (True, True)
    assert takeovers(records, [Life("worker-1", 9, 0, taken.time_ms, killed=True)], []) == []


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99


def test_more_than_the_budget_is_seen() -> None:
    history = History("run_1")
    history.run(RunRequested(goal="g", roles={}, tools={}, model="scripted", budget=Budget(model_calls=1)))
    grant = Grant(model_calls=2)
    history.run(StepStarted(step="stp_1", key="s", role="r", attempt=1, actor="stp_1", grant=grant))
    history.run(RunSucceeded(summary=""))
    assert broken(check(history.records, [], ACCEPTED)) == ["I5 within the budget"]
