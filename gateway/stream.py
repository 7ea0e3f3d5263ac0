"""Streams of facts as server-sent events: replay from the log up to the place of joining the tail, then the tail.

A stream without a place to go on from begins with a snapshot. A run's stream ends with its run. One that must end early
says why and leaves the client a last id to resume from.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from events.log import Log, LogError
from events.subjects import Address, name_scope, run_scope, workspace_scope
from gateway import from_log, shown
from gateway.errors import Problem, log_away
from gateway.replay import merged
from gateway.tail import Frame, Listener, Tail, Wanted, frame_of

RETRY_MS: Final = 2000
RECONNECT_MS: Final = 500
OUTAGES_MAX: Final = 30
CHUNK_BYTES: Final = 64 * 1024
SCOPES_MAX: Final = 100
HEARTBEAT: Final = b": hb\n\n"


class Cut(Exception):
    """The stream ends before its time; the client resumes from its last id."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as it was asked for: after a place or (None) from a snapshot on; of one run, it ends with it."""

    wanted: Wanted
    after: int | None = None
    run: Address | None = None
    deltas: bool = False
    heartbeat_seconds: float = 15.0

    def scopes(self) -> list[str]:
        """Return the filters to replay: for one run all of it, since its end may not be of a wanted name."""
        workspace = self.wanted.workspace
        if self.run is not None:
            return [run_scope(workspace, self.run.run)]
        if not self.wanted.names:
            return [run_scope(workspace, run) for run in sorted(self.wanted.runs)] or [workspace_scope(workspace)]
        names = sorted(name if "." in name else f"{name}.*" for name in self.wanted.names)
        runs = sorted(self.wanted.runs) or ["*"]
        return [name_scope(workspace, run=run, name=name) for run in runs for name in names]


async def stream(tail: Tail, feed: Feed) -> AsyncGenerator[bytes]:
    """Yield the bytes of the stream, whole frames each time; it ends by itself."""
    yield b"retry: %d\n\n" % RETRY_MS
    place = Place(feed.after)
    failures = 0
    while True:
        try:
            async for chunk in _frames(tail, feed, place):
                failures = 0
                yield chunk
        except Cut as cut:
            yield _event("error", cut.problem.body()) + b"retry: %d\n\n" % RECONNECT_MS
        except LogError as fault:
            failures += 1
            if failures <= OUTAGES_MAX and not tail.over:  # the replay was cut off: go on from its place
                yield HEARTBEAT
                await asyncio.sleep(RETRY_MS / 1000)
                continue
            yield _event("error", log_away(fault).body()) + b"retry: %d\n\n" % RETRY_MS
        return


class Place:
    """Up to where a stream was sent; None before its snapshot."""

    def __init__(self, seq: int | None) -> None:
        self.seq = seq


async def _frames(tail: Tail, feed: Feed, place: Place) -> AsyncGenerator[bytes]:
    while True:
        with tail.join(feed.wanted, deltas=feed.deltas) as listener:
            if place.seq is None:
                first = await _snapshot(tail.facts, feed, listener.start)
                if first is None:  # asked for a moment ago, and this tail is not there yet
                    await _more(tail, listener, feed)
                    continue
                yield first.text
                if first.ends:
                    yield _end(first)
                    return
                place.seq = listener.start
            async for frames in _replayed(tail.facts, feed, after=place.seq, upto=listener.start):
                place.seq = frames[-1].seq
                yield _joined(frames)
                if feed.run is not None and frames[-1].ends:
                    yield _end(frames[-1])
                    return
            if listener.overflowed:
                continue  # the replay took longer than the queue is deep: the rest is in the log by now
            async for frames in _live(tail, listener, feed, after=max(place.seq, listener.start)):
                place.seq = max([place.seq, *(frame.seq for frame in frames)])
                yield _joined(frames) if frames else HEARTBEAT
                if feed.run is not None and frames and frames[-1].ends:
                    yield _end(frames[-1])
                    return


async def _snapshot(facts: Log, feed: Feed, at: int) -> Frame | None:
    """Return the first frame, how things stand at `at`; None while a run of one's own is not there yet."""
    if feed.run is None:
        addresses = [Address(feed.wanted.workspace, run) for run in sorted(feed.wanted.runs)]
        rows = [await from_log.run_row(facts, address, upto=at) for address in addresses]
        runs = [shown.run(row) for row in rows if row is not None]
        return Frame(at, "", "snapshot", msgspec.json.encode({"seq": at, "runs": runs}))
    row = await from_log.run_row(facts, feed.run, upto=at)
    if row is None:
        return None
    view = msgspec.structs.replace(shown.run(row), seq=at)
    return Frame(at, view.id, "snapshot", msgspec.json.encode(view), view.ended)


async def _replayed(facts: Log, feed: Feed, *, after: int, upto: int) -> AsyncGenerator[list[Frame]]:
    async for records in merged(facts, feed.scopes(), after=after, upto=upto):
        frames, size = list[Frame](), 0
        for record in records:
            if not feed.wanted.takes(record):
                continue
            frames.append(frame_of(record))
            size += len(frames[-1].data)
            if (frames[-1].ends and feed.run is not None) or size > CHUNK_BYTES:
                yield frames
                frames, size = [], 0
        if frames:
            yield frames


async def _live(tail: Tail, listener: Listener, feed: Feed, *, after: int) -> AsyncGenerator[list[Frame]]:
    """Yield frames as they come, none when it is time for a heartbeat; an end of the feed's run is the last. Raises Cut."""
    while True:
        frames = [frame for frame in await _more(tail, listener, feed) if frame.seq > after or not frame.seq]
        ends = next((index for index, frame in enumerate(frames) if frame.ends and feed.run is not None), len(frames))
        yield frames[: ends + 1]


async def _more(tail: Tail, listener: Listener, feed: Feed) -> list[Frame]:
    if tail.over:
        raise Cut(_over(tail.over))
    frames = await listener.next(feed.heartbeat_seconds)
    if not frames and listener.overflowed:
        raise Cut(Problem(503, "too_slow", "the events came faster than they were read; resume from the last id"))
    return frames


def _over(reason: str) -> Problem:
    if reason == "outdated":
        return Problem(503, "outdated", "the log holds facts of a newer version; update this gateway")
    return Problem(503, reason, "this gateway stops; resume from the last id")


def _joined(frames: list[Frame]) -> bytes:
    return b"".join([frame.text for frame in frames])


def _end(frame: Frame) -> bytes:
    return _event("end", {"run": frame.run, "seq": frame.seq})


def _event(name: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
