"""How long a failed attempt waits for its next one: doubling, with a jitter that hangs on who waits. Pure."""

from typing import Final

from events.ids import derive
from events.subjects import Address

BACKOFF_MS_MAX: Final = 60_000
DOUBLINGS_MAX: Final = 20


def backoff_ms(address: Address, attempt: int, *, first_ms: int, most_ms: int = BACKOFF_MS_MAX) -> int:
    """Return the wait after failed attempt 1, 2, ...: up to half as long again, by the address (deciders hold no dice)."""
    base = min(first_ms << min(attempt - 1, DOUBLINGS_MAX), most_ms)
    jitter = int(derive("j", 0, str(address), attempt)[-4:].encode().hex(), 16) % 1000
    return base + base * jitter // 2000
