"""Facts to bytes and back: the catalogue is closed, old tags are lifted, unknown ones are told."""

from typing import Any

import msgspec
import pytest

from events.codec import TYPES, BrokenFact, UnknownFact, decode, encode
from events.fact import Fact, File, Usage, name_of, type_of
from events.run import RunStarted, StepSucceeded, TimerSet
from events.subjects import Address, fact_subject, parse_fact
from events.tool import ToolCompleted


def test_every_type_names_its_kind_its_fact_and_its_version() -> None:
    for type_name in TYPES:
        kind, fact, version = type_name.split(".")
        assert kind.isidentifier()
        assert fact.isidentifier()
        assert version[0] == "v"
        assert version[1:].isdigit()


def test_every_types_name_stands_in_a_subject() -> None:
    for type_name in TYPES:
        name = type_name.rpartition(".")[0]
        subject = fact_subject(Address("w", "r"), name, "-")
        assert parse_fact(subject)[1] == name


def test_a_fact_is_one_line_with_its_type_and_survives() -> None:
    fact = StepSucceeded(
        step="stp_1",
        key="code",
        attempt=2,
        seq=41,
        summary="two\nlines",
        changes={"a.py": (None, File(sha="ab", mode=0o755, size=3)), "b.py": (File(sha="cd"), None)},
        usage=Usage(input_tokens=3),
    )
    body = encode(fact)
    assert b"\n" not in body
    assert msgspec.json.decode(body)["type"] == "step.succeeded.v1"
    assert decode(body, type_of(fact)) == fact
    assert name_of(fact) == "step.succeeded"


def test_fields_that_stand_at_their_defaults_are_not_stored() -> None:
    assert encode(RunStarted()) == b'{"type":"run.started.v1"}'


def test_a_newer_engines_new_fields_are_read_over() -> None:
    assert decode(b'{"type":"run.started.v1","later":1}', "run.started.v1") == RunStarted()


def test_an_unknown_type_is_told_by_name() -> None:
    with pytest.raises(UnknownFact) as unknown:
        decode(b'{"type":"run.started.v9"}', "run.started.v9")
    assert unknown.value.type_name == "run.started.v9"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"type":"timer.set.v1"}', b'{"type":"timer.set.v1","timer":1}', b"\xff"]
)
def test_a_broken_body_of_a_known_type_is_told(body: bytes) -> None:
    with pytest.raises(BrokenFact):
        decode(body, "timer.set.v1")


def older(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "timer.set.v1", "timer": fields["name"], "at": fields["at"], "purpose": "nudge"}


def oldest(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "timer.set.v0", "name": fields["name"], "at": fields["seconds"] * 1000}


UPCASTS = {"timer.set.v0": older, "timer.set.v00": oldest}


@pytest.mark.parametrize(
    "body", [b'{"type":"timer.set.v0","name":"t","at":5000}', b'{"type":"timer.set.v00","name":"t","seconds":5}']
)
def test_an_old_version_is_lifted_step_by_step_to_todays(body: bytes) -> None:
    type_name = msgspec.json.decode(body)["type"]
    assert decode(body, type_name, UPCASTS) == TimerSet(timer="t", at=5000, purpose="nudge")


def test_an_old_version_that_cannot_be_lifted_is_broken() -> None:
    with pytest.raises(BrokenFact):
        decode(b'{"type":"timer.set.v0"}', "timer.set.v0", UPCASTS)


def test_any_json_survives_as_a_tools_data() -> None:
    data = {"a": [1, 2.5, None, True, {"é": "\u2028"}]}
    fact: Fact = ToolCompleted(epoch=1, text="x", data=data)
    assert decode(encode(fact), type_of(fact)) == fact
