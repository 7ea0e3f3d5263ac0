"""A run out of budget as its watcher sees it: who waits, what is lacking, and the command that lets it go on."""

from events.budget import Amount, Budget, BudgetExhausted, BudgetRaised, BudgetShort, Grant
from gateway.view.budget_lines import budget_lines, raise_line
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
    shown = drawn(story)
    assert "waits for budget" in shown
    assert "the run is out of budget (model calls): 1 model call needed at least" in shown
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
