"""Ids: what may stand in a subject, and that derived ones are the same every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.clock import SystemClock
from events.ids import ALPHABET, TOKEN, InvalidToken, check_token, decode, derive, encode, span_id, trace_id

ATTACKS = [
    "",
    "*",
    ">",
    "a.b",
    "..",
    "A",
    "é",
    "a b",
    "a\x00",
    "a\r\n",
    "x" * 65,
    "\u202e",
    "a\uff0eb",
    "🙂",
    "a\n",
]


@pytest.mark.parametrize("value", ATTACKS)
def test_what_would_reach_elsewhere_in_a_subject_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        check_token(value, "workspace")
    assert refused.value.field == "workspace"
    assert str(refused.value).startswith("workspace: ")


@pytest.mark.parametrize("value", ["a", "-", "_", "0", "run_01h", "x" * 64])
def test_a_plain_token_is_let_through(value: str) -> None:
    assert check_token(value) == value


@given(st.integers(min_value=0, max_value=(1 << 128) - 1))
def test_all_128_bits_survive_being_written_and_read(bits: int) -> None:
    text = encode(bits)
    assert len(text) == 26
    assert set(text) <= set(ALPHABET)
    assert decode(text) == bits


@given(st.integers(min_value=0, max_value=(1 << 48) - 1), st.text(), st.integers())
def test_a_derived_id_is_the_same_every_time_and_may_stand_in_a_subject(now_ms: int, text: str, number: int) -> None:
    one = derive("stp", now_ms, text, number)
    assert one == derive("stp", now_ms, text, number)
    assert one != derive("stp", now_ms, text, number + 1)
    assert TOKEN.fullmatch(one)


@given(st.integers(min_value=0, max_value=(1 << 48) - 1))
def test_a_derived_id_is_a_uuid_of_version_7(now_ms: int) -> None:
    bits = decode(derive("stp", now_ms, "x").partition("_")[2])
    assert bits >> 80 == now_ms
    assert bits >> 76 & 0xF == 7
    assert bits >> 62 & 0x3 == 2


def test_ids_of_a_later_millisecond_sort_behind() -> None:
    assert derive("a", 1, "z") < derive("a", 2, "y") < derive("a", 1 << 40, "x")


def test_parts_are_told_apart() -> None:
    assert derive("a", 1, "ab", "c") != derive("a", 1, "a", "bc")
    assert span_id("ab", "c") != span_id("a", "bc")


def test_the_bits_of_a_run_id_are_its_trace_id() -> None:
    run = derive("run", 1_700_000_000_000, "x")
    assert trace_id(run) == f"{decode(run.partition('_')[2]):032x}"


@pytest.mark.parametrize("run", ["", "-", "run_1", "run_" + "u" * 26, "é"])
def test_an_id_that_is_not_of_ours_has_a_trace_id_all_the_same(run: str) -> None:
    assert len(trace_id(run)) == 32
    assert int(trace_id(run), 16) >= 0


def test_fresh_ids_differ_and_tell_their_time() -> None:
    clock = SystemClock()
    before = clock.now_ms()
    ids = [clock.new_id("run") for _ in range(100)]
    after = clock.now_ms()
    assert len(set(ids)) == 100
    assert all(TOKEN.fullmatch(each) for each in ids)
    assert all(before <= decode(each.partition("_")[2]) >> 80 <= after for each in ids)
