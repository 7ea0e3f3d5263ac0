"""The memory log reads filters as NATS does."""

import pytest

from events.memory import matches


@pytest.mark.parametrize(
    ("pattern", "subject", "held"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c.d", True),
        ("a.>", "a", False),
        (">", "a", True),
        (">", "a.b", True),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c", True),
        ("a.b*", "a.b*", True),
        ("a.b*", "a.bc", False),
    ],
)
def test_a_filter_holds_what_nats_says_it_holds(pattern: str, subject: str, *, held: bool) -> None:
    assert matches(tuple(pattern.split(".")), tuple(subject.split("."))) is held
