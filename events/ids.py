"""Ids: a prefix and a UUIDv7's 128 bits in 26 characters of lower-case Crockford base32.

Every id that goes into a subject matches `[a-z0-9_-]{1,64}`: a `*`, `>` or dot in an id would read other tenants' data.
"""

import hashlib
import re
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
TOKEN: Final = re.compile(r"[a-z0-9_-]{1,64}")
_VALUES: Final = {letter: value for value, letter in enumerate(ALPHABET)}


class InvalidToken(ValueError):
    """An id, workspace or role that may not go into a subject."""

    def __init__(self, field: str, value: str) -> None:
        self.field = field
        self.value = value
        super().__init__(f"{field}: {value[:80]!r} must be 1 to 64 of a-z, 0-9, '_' and '-'")


def check_token(value: str, field: str = "id") -> str:
    """Return `value` if it may stand as one token of a subject; raise InvalidToken naming `field` if not."""
    if not TOKEN.fullmatch(value):
        raise InvalidToken(field, value)
    return value


def encode(bits: int) -> str:
    """Write 128 bits as 26 letters (130 bits, the top two zero)."""
    return "".join(ALPHABET[(bits >> shift) & 31] for shift in range(125, -1, -5))


def decode(text: str) -> int:
    """Read the 128 bits back; raises KeyError on a letter outside the alphabet."""
    bits = 0
    for letter in text:
        bits = bits << 5 | _VALUES[letter]
    return bits & ((1 << 128) - 1)


def derive(prefix: str, now_ms: int, *parts: str | int) -> str:
    """Make an id without randomness: `now_ms` leads as in a UUIDv7, a hash of `parts` follows.

    The same arguments give the same id, so a decision made twice names its things the same way twice.
    """
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    tail = int.from_bytes(digest[:10], "big")
    tail = tail & ~(0xF << 76) | 0x7 << 76  # the version nibble of a UUIDv7
    tail = tail & ~(0x3 << 62) | 0x2 << 62  # the variant bits of RFC 9562
    return f"{prefix}_{encode((now_ms & ((1 << 48) - 1)) << 80 | tail)}"


def trace_id(run: str) -> str:
    """Return the 32 hex digits of a run's trace: the 128 bits of its id, or a hash of an id that is not of ours."""
    _, _, tail = run.partition("_")
    try:
        if len(tail) == 26:
            return f"{decode(tail):032x}"
    except KeyError:
        pass
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def span_id(*parts: str | int) -> str:
    """Return the 16 hex digits of the span that `parts` name, so that any process can point at it."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]
