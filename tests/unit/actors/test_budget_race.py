"""64 parallel steps on a budget for ten: however messages race and workers die, reserved and spent never pass it."""

import pytest

from events.budget import Budget, Grant
from events.envelope import Record
from events.fact import Fact
from events.run import RunRequested, StepStarted
from tests.invariants_budget import Books, BudgetBroken
from tests.unit.actors.budget_race import NOW, RUN_AT, Race

SEEDS = 90


@pytest.mark.parametrize("block", range(3))
def test_reserved_and_spent_never_pass_the_budget_and_nothing_sticks(block: int) -> None:
    for seed in range(block * SEEDS // 3, (block + 1) * SEEDS // 3):
        race = Race(seed).play()
        assert race.books.checked > 20
        assert race.run.end is not None or (race.run.purse and race.run.purse.exhausted), f"seed {seed} sticks"


def test_a_budget_for_ten_calls_begins_exactly_ten_of_64_steps() -> None:
    race = Race(1, limit=Budget(model_calls=10))
    race.rest()
    assert len(race.run.open_steps()) == 10
    assert race.run.purse is not None
    assert race.run.purse.rest == Grant(model_calls=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_run_that_is_out_goes_on_after_a_raise_to_its_end(seed: int) -> None:
    race = Race(seed, steps=12, limit=Budget(model_calls=10, tool_calls=20)).play()
    assert race.run.end is None
    assert race.run.purse is not None
    assert race.run.purse.exhausted is not None
    done = sum(step.status == "done" for step in race.run.steps.values())
    race.raise_(Budget(model_calls=2_000, tool_calls=2_000))
    race.play(20_000)
    assert race.run.end is not None
    assert sum(step.status == "done" for step in race.run.steps.values()) > done


def record(seq: int, fact: Fact) -> Record:
    return Record(seq=seq, address=RUN_AT, to="-", fact=fact, id="e", time_ms=NOW, causation="", version=seq, body=b"")


def test_the_books_tell_when_more_is_reserved_than_there_is() -> None:
    books = Books()
    books.take(record(1, RunRequested(goal="g", roles={}, tools={}, model="m", budget=Budget(model_calls=1))))
    started = StepStarted(step="stp_a", key="a", role="dev", attempt=1, actor="stp_a", grant=Grant(model_calls=1))
    books.take(record(2, started))
    other = StepStarted(step="stp_b", key="b", role="dev", attempt=1, actor="stp_b", grant=Grant(model_calls=1))
    with pytest.raises(BudgetBroken, match="model_calls: 2 reserved and spent of 1"):
        books.take(record(3, other))
