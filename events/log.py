"""The log: what every form of it can do. The stream sequence is the one number.

LogError
├─ Conflict        the actor's last sequence is not the expected one: read on and decide again
├─ LogUnavailable  no answer in time; what was sent may or may not be stored
│  └─ LogFull      no room: it is not stored
└─ TooLarge        a fact above the log's limit: its content belongs in the blob store
"""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from events.envelope import Entry, Record

BATCH_MAX: Final = 1000
FACT_BYTES_MAX: Final = 512 * 1024


class LogError(Exception):
    """Something about the log."""


class Conflict(LogError):
    """The actor moved on: its last sequence is `last`, or is not known yet if that is 0."""

    def __init__(self, last: int) -> None:
        self.last = last
        super().__init__(f"the actor's last sequence is {last or 'another'}")


class LogUnavailable(LogError):
    """The log did not answer in time."""


class LogFull(LogUnavailable):
    """The log has no room for this; other things may still go in, and all goes on once there is room."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the log takes no more for now: {reason}; give the stream CALLBOARD more room (CALLBOARD_LOG_BYTES_MAX, or "
            "`nats stream edit CALLBOARD --max-bytes`, or the server's disk), or purge runs that have ended"
        )


class TooLarge(LogError):
    """A fact is larger than the log takes."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"a fact of {size} bytes; the log takes {FACT_BYTES_MAX}: longer content goes to the blob store"
        )


class Log(Protocol):
    """All facts in one order."""

    async def append(self, entry: Entry, *, expected: int) -> int:
        """Store a fact if the actor's last sequence is `expected` (0: it has none) and return its sequence.

        An answer that got lost is resolved by reading: raises Conflict only if the fact is not stored.
        Raises LogUnavailable, TooLarge.
        """
        ...

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        """Return the records of `scope` (a subject filter) with a sequence above `after`, in order, up to the end now.

        Of how many the caller knows that they are there, `known`, one round trip brings that many.
        """
        ...

    async def page(self, scope: str, *, after: int = 0, limit: int = BATCH_MAX) -> list[Record]:
        """Return the first `limit` records of `scope` with a sequence above `after`."""
        ...

    async def last(self, scope: str) -> int:
        """Return the last sequence in `scope` as the log's leader knows it; 0 if there is none."""
        ...

    async def peek(self, scope: str) -> Record | None:
        """Return the last record of `scope`; a replica may answer, and be late."""
        ...

    async def end(self) -> int:
        """Return the last sequence of the whole log."""
        ...

    def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
        """Yield the records of `scope` above `after`, and then each new one, in order and without gap, in batches."""
        ...
