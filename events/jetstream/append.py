"""The one append of the whole system: a publish that the server refuses unless the actor's last sequence is the expected.

An answer that did not come says nothing about whether the fact is stored; reading does.
"""

import asyncio
import re
from typing import Final

import msgspec

from events import codec, envelope
from events.envelope import Entry
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
    error_of,
)
from events.jetstream.connection import Bus
from events.jetstream.reads import Reads
from events.jetstream.room import Room
from events.log import FACT_BYTES_MAX, Conflict, LogFull, LogUnavailable, TooLarge
from events.subjects import check_address

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
AGAIN_SECONDS: Final = 0.05

_published = msgspec.json.Decoder(Published)
_last_number = re.compile(r"(\d+)\s*$")


class _Message(msgspec.Struct, frozen=True):
    seq: int = 0


class _Found(Answer, frozen=True):
    message: _Message = _Message()


class Refused(Exception):
    """The server has another last sequence of the actor, or (None) has a write of it in flight."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        super().__init__(last)


class Appends:
    """Appends to the stream, each tried for `seconds_max` with `request_seconds` for an answer."""

    def __init__(self, bus: Bus, reads: Reads, room: Room, *, seconds_max: float, request_seconds: float) -> None:
        self._bus = bus
        self._room = room
        self._reads = reads
        self._seconds_max = seconds_max
        self._request_seconds = request_seconds

    async def append(self, entry: Entry, *, expected: int) -> int:
        """See `events.log.Log.append`. Sends the same entry again, with the same expectation, until it is answered."""
        subject, headers, body = _message(entry, expected)
        await self._room.admit(entry.fact, len(body))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds_max
        while True:
            try:
                return await self._publish(subject, headers, body, seconds=self._left(deadline))
            except (ApiError, LogFull):
                raise
            except Refused as refused:
                seq = await self._resolve(entry, expected=expected, refused=refused, deadline=deadline)
            except LogUnavailable:
                seq = await self._resolve(entry, expected=expected, refused=None, deadline=deadline)
            if seq:
                return seq
            if loop.time() >= deadline:
                raise LogUnavailable(f"no answer to an append in {self._seconds_max:g} s; it may be stored")
            await asyncio.sleep(AGAIN_SECONDS)

    async def last(self, scope: str, *, seconds: float) -> int:
        """Return the last sequence in `scope` as the stream's leader knows it, 0 if there is none."""
        request = {"last_by_subj": scope, "no_hdr": True}
        verb = f"STREAM.MSG.GET.{CALLBOARD}"
        try:
            return (await ask(self._bus, verb, request, answer=_Found, seconds=seconds)).message.seq
        except ApiError as error:
            if error.code != NO_MESSAGE_FOUND:
                raise
            return 0

    async def _publish(self, subject: str, headers: dict[str, str], body: bytes, *, seconds: float) -> int:
        reply = await self._bus.request(subject, body, headers=headers, seconds=seconds)
        answer = _published.decode(reply.body)
        error = answer.error
        if error is None:
            return answer.seq
        if error.err_code == WRONG_LAST_SEQUENCE:
            number = _last_number.search(error.description)
            raise Refused(int(number[1]) if number else None)
        if error.err_code == WRONG_LAST_SEQUENCE_IN_FLIGHT:
            raise Refused(None)
        raise error_of("an append", error)

    async def _resolve(self, entry: Entry, *, expected: int, refused: Refused | None, deadline: float) -> int:
        """Return the sequence of `entry` if it is stored, 0 if nothing is behind `expected`; else raise Conflict."""
        named = None if refused is None else refused.last
        while True:
            try:
                last = named or await self.last(entry.address.fence, seconds=self._left(deadline))
                if last > expected:
                    return await self._find(entry, expected=expected, last=last, deadline=deadline)
                break
            except LogUnavailable:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
        if named is not None:
            raise Conflict(last)  # nothing is behind, and yet it is not the last: facts were purged
        return 0

    async def _find(self, entry: Entry, *, expected: int, last: int, deadline: float) -> int:
        """Return the sequence of `entry` among the actor's facts behind `expected`, which reach at least to `last`."""
        while True:
            behind = await self._reads.scope(entry.address.fence, after=expected)
            for stored in behind:
                if stored.msg.headers.get(envelope.ID) == entry.id:
                    return stored.seq
            if behind and behind[-1].seq >= last:
                raise Conflict(behind[-1].seq)
            if asyncio.get_running_loop().time() >= deadline:
                raise LogUnavailable(f"no replica has the actor's facts up to {last} yet")
            await asyncio.sleep(AGAIN_SECONDS)

    def _left(self, deadline: float) -> float:
        return min(self._request_seconds, max(deadline - asyncio.get_running_loop().time(), 0.1))


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
