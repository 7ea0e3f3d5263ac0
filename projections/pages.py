"""Pages of lists: newest first, by opaque cursors; no offsets and no totals, which lie as soon as something happens."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Final, Generic, TypeVar

import msgspec

from projections.errors import InvalidQuery

T = TypeVar("T")
LIMIT_MAX: Final = 500
LIMIT_DEFAULT: Final = 50
SEQ_MAX: Final = 2**63 - 1
DIGITS_MAX: Final = len(str(SEQ_MAX))


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows; `next_cursor` gives the page after them, None at the end."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


def cursor(seq: int) -> str:
    """Return the cursor of what stands behind `seq` in a list."""
    return urlsafe_b64encode(b"s%d" % seq).decode().rstrip("=")


def place(text: str | None) -> int | None:
    """Return the sequence a cursor stands for; raises InvalidQuery on what is no cursor of ours."""
    if text is None:
        return None
    try:
        letters = urlsafe_b64decode(text + "=" * (-len(text) % 4)).removeprefix(b"s")
        seq = int(letters) if letters.isdigit() and len(letters) <= DIGITS_MAX else -1
    except (NotBase64, ValueError):
        seq = -1
    if not 0 <= seq <= SEQ_MAX or cursor(seq) != text:
        raise InvalidQuery("after", f"{text[:80]!r} is no cursor; pass a next_cursor as you got it")
    return seq


def check_limit(limit: int) -> int:
    """Return `limit` if a page may be so long; raises InvalidQuery."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidQuery("limit", f"{limit} must be 1 to {LIMIT_MAX}")
    return limit


def page(rows: list[T], limit: int, seqs: list[int]) -> Page[T]:
    """Make a page of rows that were asked for with one more than `limit`; `seqs` are their places."""
    more = len(rows) > limit
    return Page(data=rows[:limit], has_more=more, next_cursor=cursor(seqs[limit - 1]) if more else None)
