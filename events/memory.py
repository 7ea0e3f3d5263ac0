"""The log in memory: the same contract as on JetStream, for tests and for trying things out."""

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from operator import attrgetter

import msgspec

from events import codec
from events.envelope import Entry, Record
from events.fact import type_of
from events.ids import check_token
from events.log import BATCH_MAX, FACT_BYTES_MAX, Conflict, TooLarge
from events.subjects import Address, check_address

_seq = attrgetter("seq")


class _Stored(msgspec.Struct, frozen=True, gc=False):
    seq: int
    tokens: tuple[str, ...]
    record: Record


class MemoryLog:
    """All facts in one order, gone with the process."""

    def __init__(self) -> None:
        self._all: list[_Stored] = []
        self._runs: dict[tuple[str, str], list[_Stored]] = defaultdict(list)
        self._lasts: dict[Address, int] = {}
        self._grown = asyncio.Event()

    async def append(self, entry: Entry, *, expected: int) -> int:
        body = codec.encode(entry.fact)
        if len(body) > FACT_BYTES_MAX:
            raise TooLarge(len(body))
        check_address(entry.address)
        check_token(entry.to, "to")
        last = self._lasts.get(entry.address, 0)
        if last != expected:
            return self._resolve(entry, expected=expected, last=last)
        stored = _stored(entry, seq=len(self._all) + 1, body=body)
        self._all.append(stored)
        self._runs[entry.address.workspace, entry.address.run].append(stored)
        self._lasts[entry.address] = stored.seq
        self._grown.set()
        self._grown = asyncio.Event()
        return stored.seq

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        del known
        return [stored.record for stored in self._matching(scope, after=after)]

    async def page(self, scope: str, *, after: int = 0, limit: int = BATCH_MAX) -> list[Record]:
        matching = self._matching(scope, after=after)
        return [stored.record for stored, _ in zip(matching, range(limit), strict=False)]

    async def last(self, scope: str) -> int:
        record = await self.peek(scope)
        return record.seq if record else 0

    async def peek(self, scope: str) -> Record | None:
        pattern = tuple(scope.split("."))
        for stored in reversed(self._candidates(pattern)):
            if matches(pattern, stored.tokens):
                return stored.record
        return None

    async def end(self) -> int:
        return len(self._all)

    async def follow(self, scope: str, *, after: int) -> AsyncIterator[list[Record]]:
        """See `events.log.Log.follow`."""
        while True:
            grown, end = self._grown, len(self._all)
            if batch := await self.load(scope, after=after):
                yield batch
            after = max(after, end)
            if len(self._all) == end:
                await grown.wait()

    def _resolve(self, entry: Entry, *, expected: int, last: int) -> int:
        for stored in self._matching(entry.address.fence, after=expected):
            if stored.record.id == entry.id:
                return stored.seq
        raise Conflict(last)

    def _candidates(self, pattern: tuple[str, ...]) -> list[_Stored]:
        """Return the facts of the one run that `pattern` names, or all."""
        if len(pattern) > 3 and not {"*", ">"} & {pattern[1], pattern[3]}:
            return self._runs.get((pattern[1], pattern[3]), [])
        return self._all

    def _matching(self, scope: str, *, after: int) -> Iterator[_Stored]:
        pattern = tuple(scope.split("."))
        candidates = self._candidates(pattern)
        for at in range(bisect_right(candidates, after, key=_seq), len(candidates)):
            if matches(pattern, candidates[at].tokens):
                yield candidates[at]


def matches(pattern: tuple[str, ...], subject: tuple[str, ...]) -> bool:
    """Tell whether a subject's tokens are in a NATS filter: `*` is any one token, a last `>` one or more."""
    for at, wanted in enumerate(pattern):
        if wanted == ">" and at == len(pattern) - 1:
            return len(subject) > at
        if at >= len(subject) or wanted not in {"*", subject[at]}:
            return False
    return len(pattern) == len(subject)


def _stored(entry: Entry, *, seq: int, body: bytes) -> _Stored:
    """Build the record as a reader of the bytes would, so that a fact that does not survive that is found in tests."""
    record = Record(
        seq=seq,
        address=entry.address,
        to=entry.to,
        fact=codec.decode(body, type_of(entry.fact)),
        id=entry.id,
        time_ms=entry.time_ms,
        causation=entry.causation,
        version=entry.version,
        body=body,
        engine=entry.engine,
    )
    return _Stored(seq, tuple(entry.subject.split(".")), record)
