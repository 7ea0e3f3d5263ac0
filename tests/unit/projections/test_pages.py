"""Cursors are opaque, come back as they went out, and nothing else is taken for one."""

import pytest

from projections.errors import InvalidQuery
from projections.pages import SEQ_MAX, check_limit, cursor, page, place


@pytest.mark.parametrize("seq", [0, 1, 18734, SEQ_MAX])
def test_a_cursor_comes_back_as_the_sequence_it_was_made_of(seq: int):
    assert place(cursor(seq)) == seq


def test_no_cursor_is_no_place():
    assert place(None) is None


@pytest.mark.parametrize(
    "text", ["", "x", "1", "s1", "czE=x", "é", "c" * 1000, "czEgT1IgMQ", cursor(SEQ_MAX + 1), "%00"]
)
def test_what_is_no_cursor_is_refused(text: str):
    with pytest.raises(InvalidQuery, match="is no cursor"):
        place(text)


@pytest.mark.parametrize("limit", [1, 500])
def test_a_limit_within_its_bounds_is_taken(limit: int):
    assert check_limit(limit) == limit


@pytest.mark.parametrize("limit", [-1, 0, 501])
def test_a_limit_beyond_its_bounds_is_refused(limit: int):
    with pytest.raises(InvalidQuery, match="must be 1 to 500"):
        check_limit(limit)


def test_a_page_knows_whether_there_is_more():
    assert page(["a", "b"], 2, [1, 2]).next_cursor is None
    more = page(["a", "b", "c"], 2, [1, 2, 3])
    assert (more.data, more.has_more, place(more.next_cursor)) == (["a", "b"], True, 2)
