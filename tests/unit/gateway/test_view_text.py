"""Text in columns, and numbers as people read them."""

import pytest

from gateway.view import text


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (1_234, "1.2k"), (34_567, "35k"), (999_600, "1.0M"), (5_600_000, "5.6M")],
)
def test_counts_are_short(number: int, said: str) -> None:
    assert text.count(number) == said


@pytest.mark.parametrize(
    ("number", "said"), [(12, "12 B"), (1_200, "1.2 KiB"), (1024**2 * 34, "34 MiB"), (1024**3 * 2, "2.0 GiB")]
)
def test_sizes_have_units(number: int, said: str) -> None:
    assert text.size(number) == said


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (12, "12 ms"),
        (1_234, "1.2 s"),
        (34_000, "34 s"),
        (59_700, "1m 00s"),
        (125_000, "2m 05s"),
        (3_720_000, "1h 02m"),
        (273_600_000, "3d 04h"),
    ],
)
def test_durations_are_read_at_a_glance(ms: int, said: str) -> None:
    assert text.duration(ms) == said


@pytest.mark.parametrize(
    ("micros", "said"), [(0, "$0.00"), (42, "<$0.0001"), (4_200, "$0.0042"), (123_456, "$0.12"), (12_300_000, "$12.30")]
)
def test_money_is_as_exact_as_it_is_small(micros: int, said: str) -> None:
    assert text.money(micros) == said


@pytest.mark.parametrize(
    ("then", "said"), [(0, "now"), (5, "5s ago"), (180, "3m ago"), (7_300, "2h ago"), (400_000, "4d ago")]
)
def test_ages_are_told(then: int, said: str) -> None:
    assert text.ago(1_000_000_000 - then * 1000, 1_000_000_000) == said


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    assert text.width("日本") == 4
    assert text.width("é") == 1


def test_a_cut_never_breaks_a_wide_letter_in_two() -> None:
    assert text.cut("日本語です", 6) == "日本…"
    assert text.width(text.cut("日本語です", 6)) <= 6
    assert text.cut("abc", 3) == "abc"
    assert text.cut("abcd", 3) == "ab…"
    assert text.cut("abcd", 3, mark="...") == "..."
    assert text.cut("abcd", 0) == ""


def test_what_a_terminal_would_act_on_is_dropped_or_written_out() -> None:
    assert text.clean("a\x1b[31m\nb\u2066c") == "a[31m bc"
    assert text.escape("a\x1b[31m\nb\u2066c") == "a\\u001b[31m\nb\\u2066c"


def test_long_lists_say_how_much_is_left_out() -> None:
    assert text.listed(list("abc"), most=2) == "a, b and 1 more"
    assert text.listed(["a"]) == "a"
