"""Bytes to facts and back: the closed union of all types, and the table that lifts old versions to today's."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from events.agent import AgentFact
from events.budget import BudgetFact
from events.dead_letter import DeadLetterFact
from events.door import DoorFact
from events.fact import Fact
from events.run import RunFact
from events.tool import ToolFact

AnyFact = RunFact | AgentFact | ToolFact | DoorFact | DeadLetterFact | BudgetFact

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTS: Final[Mapping[str, Upcast]] = {}
"""Old tag -> a function from the old fact's fields to the next version's, its `type` included."""


class UnknownFact(Exception):
    """The log holds a fact of a type this engine does not know: it is older than the one that wrote it."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(f"unknown fact type {type_name!r}: a newer engine wrote it; update this worker")


class BrokenFact(Exception):
    """A fact of a known type does not have that type's shape."""

    def __init__(self, type_name: str, fault: str) -> None:
        super().__init__(f"broken fact of type {type_name!r}: {fault}")


_encoder = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(AnyFact)


def _tags(union: Any) -> frozenset[str]:
    return frozenset(str(struct.__struct_config__.tag) for struct in union.__args__)


TYPES: Final = _tags(AnyFact)
"""Every type of fact this engine knows."""


def encode(fact: Fact) -> bytes:
    """Return a fact as one line of JSON."""
    return _encoder.encode(fact)


def decode(body: bytes, type_name: str, upcasts: Mapping[str, Upcast] = UPCASTS) -> Fact:
    """Return the fact in `body`; raises UnknownFact for a tag nobody here knows, BrokenFact for a wrong shape."""
    try:
        if type_name in TYPES:
            return _decoder.decode(body)
        if type_name in upcasts:
            return _lift(body, type_name, upcasts)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as fault:
        raise BrokenFact(type_name, str(fault)) from fault
    raise UnknownFact(type_name)


def _lift(body: bytes, type_name: str, upcasts: Mapping[str, Upcast]) -> Fact:
    fields: dict[str, Any] = msgspec.json.decode(body)
    while (old := fields.get("type", type_name)) in upcasts:
        fields = upcasts[old](fields)
    return msgspec.convert(fields, AnyFact)
