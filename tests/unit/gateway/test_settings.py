"""Settings that people set, read as they mean them, and refused in words that name what they set."""

import pytest

from gateway.settings import SettingsError, load_settings


def test_the_usual_budget_is_read_in_dollars_and_none_is_no_limit() -> None:
    assert load_settings(environment={"CALLBOARD_BUDGET_USD": "2.50"}, files=()).budget_usd == 2.5
    assert load_settings(environment={}, files=()).budget_usd == 0


@pytest.mark.parametrize("value", ["-1", "a lot", "inf", "nan", "$2"])
def test_a_usual_budget_that_is_no_amount_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(SettingsError, match="CALLBOARD_BUDGET_USD"):
        load_settings(environment={"CALLBOARD_BUDGET_USD": value}, files=())
