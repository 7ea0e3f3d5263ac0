"""`--budget`: dollars alone, or limits by name; what is none is refused with the form that would do."""

import pytest

from gateway.commands.budget import budget_of
from gateway.commands.exits import USAGE, Quit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.00", {"cost_micros": 2_000_000}),
        ("$0.5", {"cost_micros": 500_000}),
        ("0.000001", {"cost_micros": 1}),
        ("tokens=50k, model_calls=20", {"tokens": 50_000, "model_calls": 20}),
        (
            "usd=1,wall=10m,depth=0,tool_calls=7",
            {"cost_micros": 1_000_000, "wall_seconds": 600, "depth": 0, "tool_calls": 7},
        ),
        ("tokens=1M", {"tokens": 1_000_000}),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, found: dict[str, int]) -> None:
    assert budget_of(text) == found


@pytest.mark.parametrize(
    "text", ["", "abc", "-1", "1e3", "NaN", "1.0000001", "tokens", "tokens=-5", "eur=2", "usd=1,2.00", "wall=x"]
)
def test_what_is_no_budget_is_wrong_usage(text: str) -> None:
    with pytest.raises(Quit) as refused:
        budget_of(text)
    assert refused.value.code == USAGE
