"""What goes over the wire: a message, and the bytes of one to send; never larger than a server takes.

nats-py checks, encodes and decodes each header by itself, which costs more than all else in an append; it takes one
pass here. An oversized subject, header or body would make the server close the connection, and nats-py for good.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from events.ids import InvalidToken
from events.log import LogError

SUBJECT_BYTES_MAX: Final = 512
HEADER_BYTES_MAX: Final = 4 * 1024
BODY_BYTES_MAX: Final = 900 * 1024

STATUS: Final = "Status"
DESCRIPTION: Final = "Description"

_BLANK: Final = re.compile(r"\s")
_VERSION: Final = "NATS/1.0\r\n"


class Oversized(LogError):
    """Something too large to send."""

    def __init__(self, field: str, size: int, limit: int) -> None:
        self.field = field
        super().__init__(
            f"{field}: {size} bytes, and NATS is sent at most {limit}; long content goes to the blob store"
        )


class Msg(msgspec.Struct, frozen=True, gc=False):
    """A message as it came in."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    reply: str = ""

    @property
    def status(self) -> str:
        """The server's status (`404`, `408`, `503`) if this is one and not a message of anybody's; else empty."""
        return self.headers.get(STATUS, "")

    @property
    def description(self) -> str:
        """What the server says to its status."""
        return self.headers.get(DESCRIPTION, "").partition("\n")[0].strip()


def publish_command(subject: str, body: bytes, *, headers: Mapping[str, str] | None, reply: str) -> bytes:
    """Return the protocol's bytes for a publish. Raises Oversized; InvalidToken on a subject with blanks."""
    if len(body) > BODY_BYTES_MAX:
        raise Oversized("body", len(body), BODY_BYTES_MAX)
    if not subject or _BLANK.search(subject) or _BLANK.search(reply):
        raise InvalidToken("subject", subject)
    name = subject.encode()
    if len(name) > SUBJECT_BYTES_MAX:
        raise Oversized("subject", len(name), SUBJECT_BYTES_MAX)
    if not headers:
        return b"PUB %b %b %d\r\n%b\r\n" % (name, reply.encode(), len(body), body)
    block = header_block(headers)
    sizes = len(block), len(block) + len(body)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (name, reply.encode(), *sizes, block, body)


def header_block(headers: Mapping[str, str]) -> bytes:
    """Return headers as they are sent, line breaks in values made blanks. Raises Oversized."""
    text = "".join([f"{key}: {value}\r\n" for key, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        text = "".join([f"{_one_line(key)}: {_one_line(value)}\r\n" for key, value in headers.items()])
    block = f"{_VERSION}{text}\r\n".encode()
    if len(block) > HEADER_BYTES_MAX:
        raise Oversized("headers", len(block), HEADER_BYTES_MAX)
    return block


def header_fields(raw: bytes) -> dict[str, str]:
    """Return the fields of received header lines; of a name that comes twice the last."""
    fields: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        key, colon, value = line.partition(":")
        if colon:
            fields[key] = value.strip()
    return fields


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
