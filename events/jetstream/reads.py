"""Reading a scope by direct get: no consumer on the server, one round trip a batch.

The first request asks for one message, or for as many as are known to be there, and learns how many follow: no request
searches beyond the last of them.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from events.jetstream.connection import Bus
from events.jetstream.wire import Msg
from events.log import BATCH_MAX, LogUnavailable

SEQUENCE: Final = "Nats-Sequence"
SUBJECT: Final = "Nats-Subject"
PENDING: Final = "Nats-Num-Pending"
TRIES_MAX: Final = 8
SECONDS: Final = 2.0
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024

NOT_FOUND: Final = "404"
END_OF_BATCH: Final = "204"


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message of a stream: its sequence there, and itself under its own subject."""

    seq: int
    msg: Msg


class Reads:
    """Direct gets from one stream."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._subject = f"$JS.API.DIRECT.GET.{stream}"

    async def scope(self, scope: str, *, after: int, limit: int | None = None, known: int = 1) -> list[Stored]:
        """Return the first `limit` messages of `scope` above `after`, or all there are now; `known` of them are there.

        Raises LogUnavailable.
        """
        found: list[Stored] = []
        count = min(known, BATCH_MAX, limit or BATCH_MAX)
        while limit is None or len(found) < limit:
            batch, pending = await self._batch(scope, start=after + 1, count=count)
            found += batch
            if pending == 0 or not batch:
                break
            after = batch[-1].seq
            count = min(pending, BATCH_MAX, BATCH_MAX if limit is None else limit - len(found))
        return found

    async def last(self, scope: str) -> Stored | None:
        """Return the last message of `scope`, as whichever replica answers knows it. Raises LogUnavailable."""
        msg = await self._bus.request(self._subject, msgspec.json.encode({"last_by_subj": scope}))
        if msg.status == NOT_FOUND:
            return None
        _check_status(msg)
        return _stored(msg)

    async def _batch(self, scope: str, *, start: int, count: int) -> tuple[list[Stored], int]:
        """Return up to `count` messages and how many of the scope are behind the last of them."""
        request = msgspec.json.encode(
            {"seq": start, "batch": count, "max_bytes": BATCH_BYTES_MAX, "next_by_subj": scope}
        )
        for attempt in range(1, TRIES_MAX + 1):
            try:
                replies = await self._bus.request_many(self._subject, request, is_last=_ends(count), seconds=SECONDS)
            except LogUnavailable:
                if attempt == TRIES_MAX:
                    raise
                continue
            if whole := _whole(replies):
                return whole
        raise LogUnavailable(f"replies to a read of {scope} were lost {TRIES_MAX} times")


def _ends(count: int) -> Callable[[Msg], bool]:
    """Return the test for the last reply of a batch of `count`: full, nothing behind it, or a status."""
    left = count

    def is_last(msg: Msg) -> bool:
        nonlocal left
        left -= 1
        return left == 0 or msg.headers.get(PENDING) == "0" or bool(msg.status)

    return is_last


def _whole(replies: list[Msg]) -> tuple[list[Stored], int] | None:
    """Return a batch and what is pending behind it; None if a reply in its middle is missing."""
    if replies[-1].status:
        end = replies.pop()
        if end.status == NOT_FOUND:
            return [], 0
        if end.status != END_OF_BATCH:
            _check_status(end)
    if not replies:
        return [], 0
    first, last = (int(msg.headers[PENDING]) for msg in (replies[0], replies[-1]))
    if first - last != len(replies) - 1:
        return None
    return [_stored(msg) for msg in replies], last


def _stored(msg: Msg) -> Stored:
    return Stored(int(msg.headers[SEQUENCE]), Msg(msg.headers[SUBJECT], msg.headers, msg.body))


def _check_status(msg: Msg) -> None:
    if msg.status:
        raise LogUnavailable(f"a direct get was refused: {msg.status} {msg.description}".strip())
