"""The envelope: CloudEvents in headers, and as one object."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import envelope
from events.codec import encode
from events.envelope import Entry, from_rfc3339, rfc3339, to_record
from events.ids import derive
from events.run import TimerSet
from events.subjects import Address

RUN = derive("run", 1_700_000_000_000, "x")
ENTRY = Entry(
    address=Address("acme", RUN, "s1", "call_1"),
    to="tool-local",
    fact=TimerSet(timer="t", at=5, purpose="p"),
    id="evt_1",
    time_ms=1_700_000_000_123,
    causation="17",
    version=4,
    engine="0.1.0 w1",
)


def test_an_entry_comes_back_from_its_headers_as_it_went_in() -> None:
    body = encode(ENTRY.fact)
    record = to_record(seq=9, subject=ENTRY.subject, headers=envelope.headers(ENTRY), body=body, fact=ENTRY.fact)
    for field in ("address", "to", "fact", "id", "time_ms", "causation", "version", "engine"):
        assert getattr(record, field) == getattr(ENTRY, field)
    assert (record.seq, record.body, record.type) == (9, body, "timer.set.v1")


def test_the_headers_are_cloudevents_in_binary_mode() -> None:
    headers = envelope.headers(ENTRY)
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-id"] == "evt_1"
    assert headers["ce-type"] == "timer.set.v1"
    assert headers["ce-source"] == f"/acme/{RUN}/s1/call_1"
    assert headers["ce-time"] == "2023-11-14T22:13:20.123Z"
    version, trace, span, flags = headers["traceparent"].split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")


def test_structured_it_is_one_object_with_the_fact_as_data() -> None:
    body = encode(ENTRY.fact)
    record = to_record(seq=9, subject=ENTRY.subject, headers=envelope.headers(ENTRY), body=body, fact=ENTRY.fact)
    told = msgspec.json.decode(msgspec.json.encode(envelope.structured(record)))
    assert told["subject"] == ENTRY.subject
    assert told["seq"] == 9
    assert told["to"] == "tool-local"
    assert told["data"] == {"type": "timer.set.v1", "timer": "t", "at": 5, "purpose": "p"}


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_milliseconds_of_this_century_survive_being_written_as_a_date(time_ms: int) -> None:
    assert from_rfc3339(rfc3339(time_ms)) == time_ms


@pytest.mark.parametrize("text", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20.000000Z"])
def test_other_forms_of_a_date_are_read(text: str) -> None:
    assert from_rfc3339(text) == 1_700_000_000_000


@pytest.mark.parametrize(("to", "causation", "ticket"), [("run", "5", 9), ("-", "5", 5), ("-", "cmd_1", 9)])
def test_the_ticket_is_the_notice_that_was_in_hand_or_the_fact_itself(to: str, causation: str, ticket: int) -> None:
    entry = msgspec.structs.replace(ENTRY, to=to, causation=causation)
    headers = envelope.headers(entry)
    record = to_record(seq=9, subject=entry.subject, headers=headers, body=b"", fact=entry.fact)
    assert record.ticket == ticket


def test_a_message_that_is_not_of_ours_is_refused() -> None:
    with pytest.raises(KeyError):
        to_record(seq=1, subject=ENTRY.subject, headers={}, body=b"", fact=ENTRY.fact)
    with pytest.raises(ValueError, match="not a fact"):
        to_record(seq=1, subject="cb.x", headers=envelope.headers(ENTRY), body=b"", fact=ENTRY.fact)
