"""The log on a JetStream stream: appends under an expected sequence, reads by direct get, follows by a consumer."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from events import codec, envelope
from events.envelope import Entry, Record
from events.ids import check_token
from events.jetstream.api import (
    CALLBOARD,
    NO_MESSAGE_FOUND,
    WRONG_LAST_SEQUENCE,
    WRONG_LAST_SEQUENCE_IN_FLIGHT,
    Answer,
    ApiError,
    Published,
    ask,
)
from events.jetstream.connection import Bus
from events.jetstream.follow import follow
from events.jetstream.reads import Reads, Stored
from events.jetstream.replies import REQUEST_SECONDS
from events.log import BATCH_MAX, FACT_BYTES_MAX, Conflict, LogUnavailable, TooLarge
from events.subjects import check_address

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

APPEND_SECONDS_MAX: Final = 15.0
AGAIN_SECONDS: Final = 0.05
BEHIND_SECONDS_MAX: Final = 5.0

_published = msgspec.json.Decoder(Published)
_last_number = re.compile(r"(\d+)\s*$")


class _Message(msgspec.Struct, frozen=True):
    seq: int = 0


class _Found(Answer, frozen=True):
    message: _Message = _Message()


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Info(Answer, frozen=True):
    state: _State = _State()


class JetStreamLog:
    """All facts in one order, in the stream CALLBOARD."""

    def __init__(self, bus: Bus, *, append_seconds_max: float = APPEND_SECONDS_MAX) -> None:
        self._bus = bus
        self._reads = Reads(bus, CALLBOARD)
        self._append_seconds_max = append_seconds_max

    async def append(self, entry: Entry, *, expected: int) -> int:
        """See `events.log.Log.append`. Sends the same entry again, with the same expectation, until it is answered."""
        subject, headers, body = _message(entry, expected)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._append_seconds_max
        while True:
            try:
                seconds = min(REQUEST_SECONDS, max(deadline - loop.time(), 0.1))
                return await self._publish(subject, headers, body, seconds=seconds)
            except (_Refused, LogUnavailable) as cause:
                seq = await self._resolve(entry, expected=expected, cause=cause, deadline=deadline)
            if seq:
                return seq
            if loop.time() >= deadline:
                raise LogUnavailable(f"no answer to an append in {self._append_seconds_max:g} s; it may be stored")
            await asyncio.sleep(AGAIN_SECONDS)

    async def load(self, scope: str, *, after: int = 0) -> list[Record]:
        return [_record(stored) for stored in await self._reads.scope(scope, after=after)]

    async def page(self, scope: str, *, after: int = 0, limit: int = BATCH_MAX) -> list[Record]:
        return [_record(stored) for stored in await self._reads.scope(scope, after=after, limit=limit)]

    async def last(self, scope: str) -> int:
        request = {"last_by_subj": scope, "no_hdr": True}
        try:
            return (await ask(self._bus, f"STREAM.MSG.GET.{CALLBOARD}", request, answer=_Found)).message.seq
        except ApiError as error:
            if error.code != NO_MESSAGE_FOUND:
                raise
            return 0

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

    async def _publish(self, subject: str, headers: dict[str, str], body: bytes, *, seconds: float) -> int:
        reply = await self._bus.request(subject, body, headers=headers, seconds=seconds)
        answer = _published.decode(reply.body)
        error = answer.error
        if error is None:
            return answer.seq
        if error.err_code == WRONG_LAST_SEQUENCE:
            number = _last_number.search(error.description)
            raise _Refused(int(number[1]) if number else None)
        if error.err_code == WRONG_LAST_SEQUENCE_IN_FLIGHT:
            raise _Refused(None)
        raise ApiError("an append", error)

    async def _resolve(self, entry: Entry, *, expected: int, cause: Exception, deadline: float) -> int:
        """Return the sequence of `entry` if it is stored, 0 if nothing is behind `expected`; else raise Conflict."""
        if isinstance(cause, ApiError):
            raise cause
        fence = entry.address.fence
        loop = asyncio.get_running_loop()
        while True:
            try:
                last = max(cause.last or 0 if isinstance(cause, _Refused) else 0, await self.last(fence))
                if last <= expected:
                    break
                return await self._find(entry, expected=expected, last=last)
            except LogUnavailable:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
        if isinstance(cause, _Refused) and cause.last is not None:
            raise Conflict(last)  # nothing is behind, and yet it is not the last: its facts were purged
        return 0

    async def _find(self, entry: Entry, *, expected: int, last: int) -> int:
        """Return the sequence of `entry` among the actor's facts behind `expected`, which reach to `last`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BEHIND_SECONDS_MAX
        while True:
            behind = await self._reads.scope(entry.address.fence, after=expected)
            for stored in behind:
                if stored.msg.headers.get(envelope.ID) == entry.id:
                    return stored.seq
            if behind and behind[-1].seq >= last:
                raise Conflict(behind[-1].seq)
            if loop.time() >= deadline:
                raise LogUnavailable(f"no replica has the actor's facts up to {last} yet")
            await asyncio.sleep(AGAIN_SECONDS)


class _Refused(Exception):
    """The server has another last sequence of the actor, or (None) one in flight."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        super().__init__(last)


def _message(entry: Entry, expected: int) -> tuple[str, dict[str, str], bytes]:
    # Every door checks its tokens; a wildcard or a dot in one would move the fence into other actors.
    check_address(entry.address)
    check_token(entry.to, "to")
    body = codec.encode(entry.fact)
    if len(body) > FACT_BYTES_MAX:
        raise TooLarge(len(body))
    headers = envelope.headers(entry)
    headers[EXPECTED] = str(expected)
    headers[EXPECTED_SUBJECT] = entry.address.fence
    return entry.subject, headers, body


def _record(stored: Stored) -> Record:
    headers, body = stored.msg.headers, stored.msg.body
    fact = codec.decode(body, headers[envelope.TYPE])
    return envelope.to_record(seq=stored.seq, subject=stored.msg.subject, headers=headers, body=body, fact=fact)
