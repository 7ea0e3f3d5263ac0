"""The log on a JetStream stream: appends under an expected sequence, reads by direct get, follows by a consumer."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from events import codec, envelope
from events.envelope import Entry, Record
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.append import Appends
from events.jetstream.connection import Bus
from events.jetstream.follow import follow
from events.jetstream.reads import Reads, Stored
from events.jetstream.room import Room
from events.log import BATCH_MAX

APPEND_SECONDS_MAX: Final = 15.0
ANSWER_SECONDS: Final = 2.0
"""A lost answer is looked after when it is this late: a leader's death costs so much, and one more round trip."""


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Info(Answer, frozen=True):
    state: _State = _State()


class JetStreamLog:
    """All facts in one order, in the stream CALLBOARD."""

    def __init__(
        self, bus: Bus, *, append_seconds_max: float = APPEND_SECONDS_MAX, request_seconds: float = ANSWER_SECONDS
    ) -> None:
        """An append is tried for `append_seconds_max`, an answer waited for `request_seconds`."""
        self.room = Room(bus)
        self._bus = bus
        self._reads = Reads(bus, CALLBOARD)
        self._request_seconds = request_seconds
        self._appends = Appends(
            bus, self._reads, self.room, seconds_max=append_seconds_max, request_seconds=request_seconds
        )

    async def append(self, entry: Entry, *, expected: int) -> int:
        return await self._appends.append(entry, expected=expected)

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        return [_record(stored) for stored in await self._reads.scope(scope, after=after, known=known)]

    async def page(self, scope: str, *, after: int = 0, limit: int = BATCH_MAX) -> list[Record]:
        return [_record(stored) for stored in await self._reads.scope(scope, after=after, limit=limit)]

    async def last(self, scope: str) -> int:
        return await self._appends.last(scope, seconds=self._request_seconds)

    async def peek(self, scope: str) -> Record | None:
        stored = await self._reads.last(scope)
        return None if stored is None else _record(stored)

    async def end(self) -> int:
        return (await ask(self._bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info)).state.last_seq

    async def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
        """See `events.log.Log.follow`. Raises UnknownFact behind the last record before such a fact."""
        tail = follow(self._bus, stream=CALLBOARD, scope=scope, after=after)
        try:
            async for batch in tail:
                records: list[Record] = []
                for stored in batch:
                    try:
                        records.append(_record(stored))
                    except (codec.UnknownFact, codec.BrokenFact):
                        if records:
                            yield records
                        raise
                yield records
        finally:
            await tail.aclose()


def _record(stored: Stored) -> Record:
    headers, body = stored.msg.headers, stored.msg.body
    fact = codec.decode(body, headers[envelope.TYPE])
    return envelope.to_record(seq=stored.seq, subject=stored.msg.subject, headers=headers, body=body, fact=fact)
