"""`callboard fmt`: bodies of facts on stdin, a readable line each on stdout. Anything else goes through as it is.

`nats sub --translate 'callboard fmt'` starts it once a message, so it imports little.
"""

import sys
from typing import Any, BinaryIO, cast

import msgspec

from events.codec import BrokenFact, UnknownFact, decode
from events.fact import Fact, name_of
from gateway.view.words import words


def run(source: BinaryIO | None = None, sink: BinaryIO | None = None) -> int:
    """Filter stdin to stdout, or `source` to `sink`; returns the exit code."""
    out = sink or sys.stdout.buffer
    try:
        for body in source or sys.stdin.buffer:
            out.write(readable(body))
            out.flush()
    except BrokenPipeError:
        sys.stderr.close()
    except KeyboardInterrupt:
        return 130
    return 0


def readable(body: bytes) -> bytes:
    """Return a body as a line; what is not the JSON of a fact or an envelope is returned as it came."""
    raw = body.strip()
    if not raw.startswith(b"{"):
        return body
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return body
    return _line(raw, cast("dict[str, Any]", found)) or body


def _line(raw: bytes, fields: dict[str, Any]) -> bytes:
    prefix = ""
    if "specversion" in fields and isinstance(fields.get("data"), dict):
        prefix = f"#{fields.get('seq', '-')} "
        raw = msgspec.json.encode(fields["data"])
    type_name = fields.get("type")
    if not isinstance(type_name, str):
        return b""
    try:
        fact = decode(raw, type_name)
    except UnknownFact:
        return b""
    except BrokenFact as fault:
        return f"{prefix}{type_name}: {fault}\n".encode()
    return f"{prefix}{name_of(fact):<18} {_key(fact)}{words(fact).text}\n".encode()


def _key(fact: Fact) -> str:
    key = getattr(fact, "key", "")
    return f"{key}: " if key else ""
