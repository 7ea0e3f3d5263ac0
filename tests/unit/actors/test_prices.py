import msgspec
import pytest

from actors.prices import list_prices, read_prices, resolve_model
from events.fact import Usage


def test_short_names_become_names_of_the_provider() -> None:
    assert resolve_model("sonnet") == "claude-sonnet-5-5"
    assert resolve_model("opus") == "claude-opus-5-5"
    assert resolve_model("haiku") == "claude-haiku-5-5"


def test_a_full_name_stays_as_it_is() -> None:
    assert resolve_model("claude-opus-4-8") == "claude-opus-4-8"
    assert resolve_model("some-model-of-tomorrow") == "some-model-of-tomorrow"


@pytest.mark.parametrize("name", ["inherit", ""])
def test_a_role_without_a_model_takes_the_one_of_its_run(name: str) -> None:
    assert resolve_model(name, inherited="opus") == "claude-opus-5-5"
    assert resolve_model(name, inherited="inherit") == resolve_model(name) == "claude-sonnet-5-5"


def test_resolving_twice_changes_nothing() -> None:
    assert resolve_model(resolve_model("haiku")) == resolve_model("haiku")


def test_every_short_name_and_the_default_have_a_price() -> None:
    table = list_prices()
    for name in (*table.aliases, table.default):
        assert table.price(resolve_model(name)) is not None, name


def test_each_kind_of_token_has_its_own_price() -> None:
    million = 1_000_000
    table = list_prices()
    assert table.cost_micros(Usage(input_tokens=million), "claude-sonnet-5-5") == 2_000_000
    assert table.cost_micros(Usage(output_tokens=million), "claude-sonnet-5-5") == 10_000_000
    assert table.cost_micros(Usage(cache_read_tokens=million), "claude-sonnet-5-5") == 100_000
    assert table.cost_micros(Usage(cache_write_tokens=million), "claude-sonnet-5-5") == 2_500_000


def test_a_call_costs_the_sum_of_its_tokens() -> None:
    usage = Usage(input_tokens=10, output_tokens=200, cache_read_tokens=3000, cache_write_tokens=400, model_calls=1)
    assert list_prices().cost_micros(usage, "claude-opus-5-5") == 40 + 4000 + 600 + 2000


def test_a_prompt_over_the_limit_costs_the_long_price_for_every_token() -> None:
    table = list_prices()
    at = Usage(input_tokens=10_000, cache_read_tokens=90_000, output_tokens=1000)
    over = Usage(input_tokens=10_001, cache_read_tokens=90_000, output_tokens=1000)
    assert table.cost_micros(at, "claude-haiku-5-5") == 1000 + 900 + 500
    assert table.cost_micros(over, "claude-haiku-5-5") == round(5000.5 + 4500 + 2500)


def test_a_dated_snapshot_costs_what_its_family_costs() -> None:
    table = list_prices()
    assert table.price("claude-haiku-4-5-20251001") == table.price("claude-haiku-4-5")


def test_an_unknown_model_has_no_cost() -> None:
    assert list_prices().cost_micros(Usage(input_tokens=5), "some-model-of-tomorrow") is None


def test_a_table_with_a_fault_is_refused_with_its_path() -> None:
    table = b'{"as_of": "2026-11-10", "default": "x", "aliases": {}, "usd_per_million_tokens": {"x": {"input": -1}}}'
    with pytest.raises(msgspec.ValidationError, match=r"\$\.usd_per_million_tokens"):
        read_prices(table)
