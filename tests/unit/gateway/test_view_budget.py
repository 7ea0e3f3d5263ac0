"""A run out of budget as its watcher sees it: who waits, what is lacking, and the command that lets it go on."""

import pytest

from events.budget import Amount, Budget, BudgetExhausted, BudgetRaised, BudgetShort, Grant
from gateway.view.budget_lines import budget_lines, raise_line
from gateway.view.budget_words import exhausted
from gateway.view.paint import paint
from gateway.views import BudgetLeft, BudgetView
from tests.history import History
from tests.stories import Story
from tests.unit.gateway.test_view_tree import PLAIN, board_of, drawn


def out_of_budget() -> Story:
    story = Story(History())
    story.start()
    actor = story.begin("analyze", "analyst")
    story.history.run(BudgetShort(keys=("analyze",), need=Amount(model_calls=1), actor=actor, asked=9))
    story.history.run(
        BudgetExhausted(
            lacks=("model_calls",), need=Amount(model_calls=1), left=Grant(model_calls=0), keys=("analyze",)
        )
    )
    return story


def test_a_run_out_of_budget_needs_input_and_says_the_command() -> None:
    story = out_of_budget()
    assert board_of(story).status == "needs_input"
    shown = " ".join(drawn(story).split())
    assert "waits for budget" in shown
    told = "1 model call needed at least (a call's worst case is reserved before it is made), 0 model calls left"
    assert f"the run is out of budget (model calls): {told}; analyze would go on" in shown
    assert "callboard runs budget run_1 --add model_calls=20" in shown


def test_a_raised_budget_is_no_longer_waited_for() -> None:
    story = out_of_budget()
    story.history.run(BudgetRaised(budget=Budget(model_calls=20), by="ann"))
    assert board_of(story).status == "running"
    assert "callboard runs budget" not in drawn(story)


def test_a_budget_is_shown_with_each_part_and_what_lets_it_go_on() -> None:
    view = BudgetView(
        run="run_1",
        limit={"cost_micros": 2_000_000, "wall_seconds": 600},
        parts={"cost_micros": BudgetLeft(limit=2_000_000, used=500_000, reserved=1_000_000, left=500_000)},
        until="2026-11-21T10:00:00.000Z",
        waits="out of budget (money)",
        lacks=("cost_micros",),
        waiting=("a",),
        hint=raise_line("run_1", BudgetExhausted(lacks=("cost_micros",))),
    )
    shown = "\n".join(paint(line, PLAIN) for line in budget_lines(view))
    assert "$0.50 left of $2.00 ($0.50 used, $1.00 reserved)" in shown
    assert "10m 00s, until 2026-11-21" in shown
    assert "callboard runs budget run_1 --add 1.00" in shown


@pytest.mark.parametrize(
    ("out", "added"),
    [
        (BudgetExhausted(lacks=("cost_micros",), need=Amount(cost_micros=900), left=Grant(cost_micros=1)), "1.00"),
        (
            BudgetExhausted(lacks=("cost_micros",), need=Amount(cost_micros=5_210_000), left=Grant(cost_micros=0)),
            "11.00",
        ),
        (BudgetExhausted(lacks=("tokens",), need=Amount(tokens=260_000), left=Grant(tokens=20_000)), "tokens=480k"),
        (BudgetExhausted(lacks=("tokens", "tool_calls"), need=Amount(tokens=9)), "tokens=200k,tool_calls=50"),
        (BudgetExhausted(lacks=("wall_seconds",)), "wall=10m"),
    ],
)
def test_the_command_that_is_named_adds_more_than_what_is_missing(out: BudgetExhausted, added: str) -> None:
    assert raise_line("run_1", out) == f"callboard runs budget run_1 --add {added}"


def test_time_that_was_over_long_ago_is_added_too() -> None:
    out = BudgetExhausted(lacks=("wall_seconds",))
    assert raise_line("run_1", out, late_seconds=7_201) == "callboard runs budget run_1 --add wall=131m"


def test_only_what_is_lacking_is_told_of() -> None:
    need, left = Amount(tokens=6_601, cost_micros=47_223, model_calls=1), Grant(tokens=90_000, cost_micros=30_000)
    told = exhausted(BudgetExhausted(lacks=("cost_micros",), need=need, left=left))
    assert "$0.0472 needed at least" in told
    assert "$0.0300 left" in told
    assert "6.6k" not in told
