"""Time and fresh ids: the one place that reads the clock and makes random ids; tests pass their own."""

import time
from typing import Protocol

from uuid_utils import compat

from events.ids import encode


class Clock(Protocol):
    """Where time and fresh ids come from."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever grow, whatever is done to the machine's clock."""
        ...

    def new_id(self, prefix: str) -> str:
        """Return a fresh id, `<prefix>_` and 26 characters."""
        ...


class SystemClock:
    """The machine's clock and random UUIDv7 ids."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{encode(compat.uuid7().int)}"
