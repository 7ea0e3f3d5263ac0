"""The arithmetic of budgets: slices never pass what there is, and a call's worst case is counted before it is made."""

from actors import budget
from events.budget import Amount, Budget, Grant, Rate
from events.fact import Usage

RATE = Rate(overhead=100, input=3.0, output=15.0)


def test_what_is_left_never_goes_below_zero_and_no_limit_stays_none() -> None:
    assert budget.left(Budget(tokens=10), Amount(tokens=30, model_calls=2)) == Grant(tokens=0)


def test_all_tokens_of_a_usage_count() -> None:
    usage = Usage(
        input_tokens=1, output_tokens=2, cache_read_tokens=4, cache_write_tokens=8, cost_micros=16, model_calls=1
    )
    assert budget.spent(usage) == Amount(tokens=15, cost_micros=16, model_calls=1)


def test_a_slice_is_an_even_share_and_at_least_the_need() -> None:
    need = Amount(model_calls=1)
    assert budget.slice_of(Grant(model_calls=12), need, shares=4) == Grant(model_calls=3)
    assert budget.slice_of(Grant(model_calls=10), need, shares=64) == Grant(model_calls=1)
    assert budget.slice_of(Grant(model_calls=0), need, shares=1) is None


def test_a_slice_is_capped_so_that_who_waits_for_a_human_holds_little() -> None:
    assert budget.slice_of(Grant(model_calls=1000), Amount(model_calls=1), shares=1) == Grant(model_calls=8)


def test_a_need_that_lacks_one_thing_gets_none_of_the_others() -> None:
    rest = Grant(tokens=1000, cost_micros=5)
    assert budget.lacking(Amount(tokens=10, cost_micros=6), rest) == ("cost_micros",)
    assert budget.slice_of(rest, Amount(tokens=10, cost_micros=6), shares=1) is None


def test_a_calls_worst_case_is_priced_and_rounded_up() -> None:
    amount = budget.call_amount(Rate(input=0.1, output=0.1), input_tokens=3, output_tokens=2)
    assert amount == Amount(tokens=5, cost_micros=1, model_calls=1)


def test_a_long_prompt_has_its_own_price() -> None:
    rate = Rate(input=1.0, output=1.0, long_over=100, long_input=2.0, long_output=3.0)
    assert budget.call_amount(rate, input_tokens=100, output_tokens=10).cost_micros == 110
    assert budget.call_amount(rate, input_tokens=101, output_tokens=10).cost_micros == 232


def test_an_answer_is_as_long_as_the_slice_pays_for() -> None:
    assert budget.output_that_fits(RATE, Grant(), input_tokens=1000) == 32_000
    assert budget.output_that_fits(RATE, Grant(tokens=11_000), input_tokens=1000) == 10_000
    assert budget.output_that_fits(RATE, Grant(tokens=5_000), input_tokens=1000) == 0
    output = budget.output_that_fits(RATE, Grant(cost_micros=100_000), input_tokens=1000)
    assert 6_400 <= output <= 6_466
    assert budget.call_amount(RATE, input_tokens=1000, output_tokens=output).cost_micros <= 100_000
    assert budget.output_that_fits(RATE, Grant(model_calls=0), input_tokens=1000) == 0


def test_what_a_slice_adds_stands_on_what_was_used() -> None:
    whole = budget.after(Amount(tokens=7, model_calls=1), Grant(tokens=3), until=9)
    assert whole == Grant(tokens=10, until=9)
