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
        seq = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (NotBase64, ValueError):
        seq = ""
    if not (
        seq[:1] == "s" and seq[1:].isascii() and seq[1:].isdigit() and int(seq[1:20]) <= SEQ_MAX and len(seq) <= 20
    ):
        raise InvalidQuery("after", f"{text[:80]!r} is no cursor; pass a next_cursor as you got it")
    return int(seq[1:])


def check_limit(limit: int) -> int:
    """Return `limit` if a page may be so long; raises InvalidQuery."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidQuery("limit", f"{limit} must be 1 to {LIMIT_MAX}")
    return limit


def page(rows: list[T], limit: int, seqs: list[int]) -> Page[T]:
    """Make a page of rows that were asked for with one more than `limit`; `seqs` are their places."""
    more = len(rows) > limit
    return Page(data=rows[:limit], has_more=more, next_cursor=cursor(seqs[limit - 1]) if more else None)
