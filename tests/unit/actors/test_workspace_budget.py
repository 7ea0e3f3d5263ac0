"""A workspace's budget: runs claim before they spend, wait in line for what is not there, and hand back when they end."""

from random import Random

import pytest

from actors.decider import Refused, Send
from actors.workspace_budget import WORKSPACE, LimitWorkspace, ReserveBudget, ReturnBudget, budget_address
from events.budget import Amount, Budget, BudgetQueued, BudgetReserved, Grant
from events.codec import encode
from events.envelope import Record
from events.fact import Fact
from tests.invariants_budget import Books
from tests.unit.actors.scenario import NOW, Scenario, names

ADDRESS = budget_address("default")


def pool(**limit: int) -> Scenario:
    story = Scenario(WORKSPACE, ADDRESS)
    story.when(LimitWorkspace(id="cmd_l", now_ms=NOW, limit=Budget(**limit), by="ann"))
    return story


def claim(story: Scenario, run: str, want: int | None, least: int = 1, *, number: int = 1) -> list[Fact]:
    command = ReserveBudget(
        id=f"cmd_{run}-{number}",
        now_ms=NOW,
        run=run,
        claim=number,
        want=Grant(model_calls=want),
        least=Amount(model_calls=least),
    )
    return [*story.when(command), *story.rest()]


def hand_back(story: Scenario, run: str, used: int) -> list[Fact]:
    back = ReturnBudget(id=f"cmd_return-{run}", now_ms=NOW, run=run, used=Amount(model_calls=used))
    return [*story.when(back), *story.rest()]


def test_its_address_is_no_runs() -> None:
    assert ADDRESS.kind == "budget"
    assert ADDRESS.fence == "cb.default.evt.-.budget.-.>"


def test_a_claim_gets_what_it_wants_as_far_as_it_goes() -> None:
    story = pool(model_calls=10)
    (first,) = claim(story, "run_a", 7)
    (second,) = claim(story, "run_b", 7)
    assert isinstance(first, BudgetReserved)
    assert isinstance(second, BudgetReserved)
    assert (first.grant, second.grant) == (Grant(model_calls=7), Grant(model_calls=3))
    assert story.state.rest == Grant(model_calls=0)


def test_a_run_without_a_limit_of_its_own_gets_a_share() -> None:
    (fact,) = claim(pool(model_calls=40), "run_a", None)
    assert isinstance(fact, BudgetReserved)
    assert fact.grant == Grant(model_calls=10)


def test_what_does_not_fit_waits_in_line_until_something_is_handed_back() -> None:
    story = pool(model_calls=10)
    claim(story, "run_a", 10)
    (queued,) = claim(story, "run_b", 5, least=2)
    assert isinstance(queued, BudgetQueued)
    sent = [one.body for one in story.pending() if isinstance(one, Send) and one.address.run == "run_b"]
    assert sent == [{"claim": 1, "grant": None}]
    facts = hand_back(story, "run_a", 6)
    assert names(facts) == ["budget.returned", "budget.reserved"]
    assert isinstance(facts[1], BudgetReserved)
    assert facts[1].grant == Grant(model_calls=4)
    assert story.state.spent == Amount(model_calls=6)


def test_a_raise_serves_the_line() -> None:
    story = pool(model_calls=1)
    claim(story, "run_a", 1)
    claim(story, "run_b", 5)
    raise_ = LimitWorkspace(id="cmd_m", now_ms=NOW, limit=Budget(model_calls=4), by="ann")
    assert WORKSPACE.route(story.state, story.when(raise_)[0]) == "run"
    assert names(story.rest()) == ["budget.reserved"]


def test_it_is_not_set_below_what_is_used_and_reserved() -> None:
    story = pool(model_calls=10)
    claim(story, "run_a", 7)
    with pytest.raises(Refused, match="5 is less than the 7 used and reserved"):
        story.when(LimitWorkspace(id="cmd_m", now_ms=NOW, limit=Budget(model_calls=5), by="ann"))


def test_a_claim_or_a_return_that_comes_again_or_too_late_changes_nothing() -> None:
    story = pool(model_calls=10)
    claim(story, "run_a", 3)
    assert claim(story, "run_a", 3) == []
    hand_back(story, "run_a", 2)
    assert hand_back(story, "run_a", 2) == []
    assert claim(story, "run_a", 3, number=2) == []
    assert story.state.rest == Grant(model_calls=8)


def test_a_return_that_overtakes_its_claim_lets_it_reserve_nothing() -> None:
    story = pool(model_calls=10)
    assert names(hand_back(story, "run_a", 2)) == ["budget.returned"]
    assert claim(story, "run_a", 3) == []
    assert story.state.rest == Grant(model_calls=10)


def test_a_second_claim_adds_to_what_the_run_has() -> None:
    story = pool(model_calls=40)
    claim(story, "run_a", None)
    (more,) = claim(story, "run_a", None, least=11, number=2)
    assert isinstance(more, BudgetReserved)
    assert more.grant == Grant(model_calls=17)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_in_whatever_order_the_reserved_and_the_used_never_pass_the_limit(seed: int) -> None:
    dice, story, books = Random(seed), Scenario(WORKSPACE, ADDRESS), Books()
    told = 0

    def book(facts: list[Fact]) -> None:
        nonlocal told
        for fact in facts:
            told += 1
            books.take(
                Record(
                    seq=told,
                    address=ADDRESS,
                    to="-",
                    fact=fact,
                    id="e",
                    time_ms=NOW,
                    causation="",
                    version=told,
                    body=encode(fact),
                )
            )

    book(story.when(LimitWorkspace(id="cmd_l", now_ms=NOW, limit=Budget(model_calls=50), by="ann")))
    for number in range(1, 200):
        run = f"run_{dice.randrange(20)}"
        if dice.random() < 0.6:
            want = dice.choice([None, dice.randint(1, 30)])
            book(claim(story, run, want, least=dice.randint(1, min(12, want or 12)), number=number))
        else:
            held = story.state.holds.get(run, Grant(model_calls=0)).model_calls or 0
            book(hand_back(story, run, dice.randint(0, held)))
    assert books.checked > 10
