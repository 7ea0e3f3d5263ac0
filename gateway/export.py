"""A run as a file: a line that says what it is, then each of its facts with sequence, subject, headers and body, as the log has them.

Content in the blob store is named in it, not held.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final

import msgspec

from actors.recorded import Report, Unreadable, walk
from events import codec
from events.envelope import TYPE, Entry, Record, headers, to_record
from events.log import Log
from events.subjects import Address, run_scope
from gateway.replay import replay

FORMAT: Final = 1
MEDIA_TYPE: Final = "application/x-ndjson"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: the format's version, whose run it is, and the sequence of the last fact in it."""

    callboard_export: int
    workspace: str
    run: str
    upto: int
    engine: str = ""


class Line(msgspec.Struct, frozen=True):
    """One fact as it is stored."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: msgspec.Raw


class ExportError(Exception):
    """A file that is no export, or is cut short."""


async def export(facts: Log, address: Address, *, engine: str) -> AsyncGenerator[bytes]:
    """Yield the lines of a run's export, up to what the log has now; raises LogUnavailable."""
    scope = run_scope(address.workspace, address.run)
    upto = await facts.last(scope)
    head = Header(callboard_export=FORMAT, workspace=address.workspace, run=address.run, upto=upto, engine=engine)
    yield msgspec.json.encode(head) + b"\n"
    async for batch in replay(facts, scope, after=0, upto=upto):
        yield b"".join(line_of(record) for record in batch)


def line_of(record: Record) -> bytes:
    """Return a record as a line."""
    entry = Entry(
        address=record.address,
        to=record.to,
        fact=record.fact,
        id=record.id,
        time_ms=record.time_ms,
        causation=record.causation,
        version=record.version,
        engine=record.engine,
    )
    body = msgspec.Raw(record.body or codec.encode(record.fact))
    return msgspec.json.encode(Line(record.seq, entry.subject, headers(entry), body)) + b"\n"


def read_header(data: bytes) -> Header:
    """Return the first line of an export. Raises ExportError."""
    first, _, _ = data.partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=Header)
    except msgspec.DecodeError as fault:
        raise ExportError(f"line 1: this is no exported run: {fault}") from None
    if head.callboard_export != FORMAT:
        raise ExportError(f"line 1: format {head.callboard_export}; this callboard reads format {FORMAT}")
    return head


def read_records(data: bytes) -> Iterator[Record]:
    """Yield the facts of an export. Raises ExportError, and Unreadable at one that today's code cannot read."""
    head = read_header(data)
    last = 0
    for number, text in enumerate(data.splitlines()[1:], 2):
        try:
            line = msgspec.json.decode(text, type=Line)
        except msgspec.DecodeError as fault:
            raise ExportError(f"line {number}: {fault}") from None
        last = line.seq
        yield _record(line)
    if last != head.upto:
        raise ExportError(f"the file is cut short: it ends with #{last}, and the run with #{head.upto}")


def refold(data: bytes) -> Report:
    """Fold an exported run through today's code. Raises ExportError."""
    return walk(read_records(data))


def _record(line: Line) -> Record:
    body: Any = bytes(line.body)
    try:
        fact = codec.decode(body, line.headers.get(TYPE, ""))
        return to_record(seq=line.seq, subject=line.subject, headers=line.headers, body=body, fact=fact)
    except (codec.UnknownFact, codec.BrokenFact, KeyError, ValueError) as fault:
        raise Unreadable(line.seq, line.subject, body.decode(errors="replace"), str(fault)) from None
