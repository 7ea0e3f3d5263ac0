"""What goes over the wire to NATS: exact bytes, and nothing the server would hang up on."""

import pytest
from nats.aio.client import Client

from events.ids import InvalidToken
from events.jetstream.wire import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    SUBJECT_BYTES_MAX,
    Msg,
    Oversized,
    header_block,
    header_fields,
    publish_command,
)


def test_a_publish_without_headers() -> None:
    assert publish_command("a.b", b"hello", headers=None, reply="") == b"PUB a.b  5\r\nhello\r\n"


def test_a_publish_with_headers_counts_them() -> None:
    command = publish_command("a.b", b"hello", headers={"K": "v"}, reply="r.1")
    assert command == b"HPUB a.b r.1 18 23\r\nNATS/1.0\r\nK: v\r\n\r\nhello\r\n"


def test_headers_are_read_as_nats_py_reads_them() -> None:
    raw = "A: 1\r\nEmpty:\r\nWide:   x: y  \r\nÜ: no\r\nUmlaut: ü\r\n\r\nno colon\r\n".encode()
    mine, theirs = header_fields(raw), Client._parse_header_lines(raw)
    assert {key: mine[key] for key in theirs} == theirs


def test_a_line_break_in_a_value_adds_no_header() -> None:
    block = header_block({"A": "1\r\nB: 2\n\r", "C": "3"})
    assert header_fields(block.removeprefix(b"NATS/1.0\r\n")) == {"A": "1  B: 2", "C": "3"}


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb", "a\u2003b"])
def test_a_subject_with_blanks_is_refused(subject: str) -> None:
    with pytest.raises(InvalidToken):
        publish_command(subject, b"", headers=None, reply="")


def test_a_reply_with_blanks_is_refused() -> None:
    with pytest.raises(InvalidToken):
        publish_command("a", b"", headers=None, reply="x 0\r\n\r\nPUB y 0")


@pytest.mark.parametrize(
    ("field", "subject", "body", "headers"),
    [
        ("subject", "a" * (SUBJECT_BYTES_MAX + 1), b"", None),
        ("subject", "é" * (SUBJECT_BYTES_MAX // 2 + 1), b"", None),
        ("body", "a", bytes(BODY_BYTES_MAX + 1), None),
        ("headers", "a", b"", {"K": "v" * HEADER_BYTES_MAX}),
        ("headers", "a", b"", {"K": "é" * (HEADER_BYTES_MAX // 2)}),
    ],
)
def test_what_is_too_large_is_refused_by_name(
    field: str, subject: str, body: bytes, headers: dict[str, str] | None
) -> None:
    with pytest.raises(Oversized) as oversized:
        publish_command(subject, body, headers=headers, reply="")
    assert oversized.value.field == field


def test_a_status_is_told_from_a_message() -> None:
    assert Msg("a", {"Status": "404"}, b"").status == "404"
    assert Msg("a", {}, b"").status == ""
