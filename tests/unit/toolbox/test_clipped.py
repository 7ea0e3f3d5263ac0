"""Output within a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolbox.jail.output import Clipped


@given(st.lists(st.binary(max_size=50)), st.integers(min_value=4, max_value=200))
def test_the_beginning_and_the_end_are_kept(chunks: list[bytes], bytes_max: int) -> None:
    output = Clipped(bytes_max)
    for chunk in chunks:
        output.add(chunk)
    whole = b"".join(chunks)
    assert output.truncated is (len(whole) > bytes_max)
    if not output.truncated:
        assert output.value() == whole
        return
    head, tail = whole[: bytes_max // 4], whole[-(bytes_max - bytes_max // 4) :]
    assert output.value() == head + b"\n[... %d bytes left out ...]\n" % (len(whole) - bytes_max) + tail


@pytest.mark.parametrize("size", [1, 65536])
def test_a_flood_takes_no_more_memory_than_the_limit(size: int) -> None:
    output = Clipped(1000)
    for _ in range(1000):
        output.add(b"x" * size)
    assert sum(len(chunk) for chunk in output._tail) < 1000 + size
    assert output.seen == 1000 * size
