"""The envelope: CloudEvents 1.0 in binary mode, fields in headers and the fact alone in the body.

Binding: CloudEvents spec 1.0, NATS protocol binding, binary content mode (`ce-` headers).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from events.fact import Fact, name_of, type_of
from events.ids import span_id, trace_id
from events.subjects import Address, fact_subject, parse_fact

ID: Final = "ce-id"
TYPE: Final = "ce-type"
SOURCE: Final = "ce-source"
TIME: Final = "ce-time"
SPECVERSION: Final = "ce-specversion"
CAUSATION: Final = "ce-causation"
"""The id of the command, or the sequence of the notice, that this fact came of; for an outcome its ticket's sequence."""
VERSION: Final = "ce-actorversion"
"""1, 2, 3, ... within one actor."""
ENGINE: Final = "ce-engine"
"""Version and worker that wrote the fact."""
TRACEPARENT: Final = "traceparent"
REPLY: Final = "Callboard-Reply"
"""On a command from outside: the subject that wants the answer."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A fact on its way into the log."""

    address: Address
    to: str
    fact: Fact
    id: str
    time_ms: int
    causation: str
    version: int
    engine: str = ""

    @property
    def subject(self) -> str:
        return fact_subject(self.address, name_of(self.fact), self.to)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A fact in the log: `seq` is its place there, `to` who must act on it, `causation` what it came of."""

    seq: int
    address: Address
    to: str
    fact: Fact
    id: str
    time_ms: int
    causation: str
    version: int
    body: bytes
    engine: str = ""

    @property
    def type(self) -> str:
        return type_of(self.fact)

    @property
    def ticket(self) -> int:
        """The sequence of the notice that entitles to perform what this fact asks for."""
        return self.seq if self.to != "-" or not self.causation.isdigit() else int(self.causation)


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record as one structured JSON object, as HTTP and SSE carry it."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: str
    seq: int
    workspace: str
    run: str
    step: str
    call: str
    to: str
    causation: str
    traceparent: str
    data: msgspec.Raw


def rfc3339(time_ms: int) -> str:
    """Write milliseconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> int:
    """Read RFC 3339 as milliseconds since the epoch; raises ValueError."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def source(address: Address) -> str:
    """Return the CloudEvents source of an actor's facts."""
    return f"/{address.workspace}/{address.run}/{address.step}/{address.call}"


@lru_cache(maxsize=4096)
def traceparent(address: Address) -> str:
    """Return the W3C trace context of an actor: its run's trace, its own span."""
    return f"00-{trace_id(address.run)}-{span_id(address.run, address.step, address.call)}-01"


def headers(entry: Entry) -> dict[str, str]:
    """Return the headers an entry is stored with."""
    return {
        SPECVERSION: "1.0",
        ID: entry.id,
        TYPE: type_of(entry.fact),
        SOURCE: source(entry.address),
        TIME: rfc3339(entry.time_ms),
        CAUSATION: entry.causation,
        VERSION: str(entry.version),
        ENGINE: entry.engine,
        TRACEPARENT: traceparent(entry.address),
    }


def to_record(*, seq: int, subject: str, headers: Mapping[str, str], body: bytes, fact: Fact) -> Record:
    """Build the record of a stored message; raises ValueError or KeyError on a message that is not of ours."""
    address, _, to = parse_fact(subject)
    return Record(
        seq=seq,
        address=address,
        to=to,
        fact=fact,
        id=headers[ID],
        time_ms=from_rfc3339(headers[TIME]),
        causation=headers.get(CAUSATION, ""),
        version=int(headers[VERSION]),
        body=body,
        engine=headers.get(ENGINE, ""),
    )


def structured(record: Record) -> Envelope:
    """Return a record in CloudEvents structured form."""
    address = record.address
    return Envelope(
        specversion="1.0",
        id=record.id,
        type=record.type,
        source=source(address),
        subject=fact_subject(address, name_of(record.fact), record.to),
        time=rfc3339(record.time_ms),
        seq=record.seq,
        workspace=address.workspace,
        run=address.run,
        step=address.step,
        call=address.call,
        to=record.to,
        causation=record.causation,
        traceparent=traceparent(address),
        data=msgspec.Raw(record.body),
    )
