"""How long it takes until what a killed worker held is in other hands: from the kill to the next epoch's fact."""

from collections.abc import Sequence

import msgspec

from events.agent import ModelRequested, ModelTakenOver
from events.envelope import Record
from events.subjects import Address
from events.tool import ToolFailed, ToolOutcomeUnknown, ToolStarted
from tests.chaos.faults import Fault
from tests.chaos.part import Life

NODE_SECONDS = 15
MS = 1000


class Takeover(msgspec.Struct, frozen=True):
    """One effect whose performer was killed: seconds until the fact at `seq`, and whether other faults were in the way."""

    seq: int
    address: Address
    seconds: float
    by_node: bool
    by_worker: bool
    killed_ms: int = 0
    """When its performer was killed: what it held then waits together."""


def takeovers(records: Sequence[Record], lives: Sequence[Life], faults: Sequence[Fault]) -> list[Takeover]:
    """Return every takeover from a killed worker whose holder the log names."""
    killed = {str(life.pid): life for life in lives if life.killed and life.part.startswith("worker")}
    holder: dict[Address, Record] = {}
    found: list[Takeover] = []
    for record in records:
        before = holder.get(record.address)
        if before is not None and _is_next(before, record):
            life = killed.get(_pid(before))
            if life is not None and before.time_ms <= life.ended_ms <= record.time_ms:
                found.append(_takeover(record, life, faults))
        _hold(holder, record)
    return found


def _is_next(before: Record, record: Record) -> bool:
    match record.fact:
        case ModelTakenOver() | ToolStarted() | ToolOutcomeUnknown():
            return True
        case ToolFailed(code=code):
            return code in ("outcome_unknown", "attempts") and isinstance(before.fact, ToolStarted)
        case _:
            return False


def _hold(holder: dict[Address, Record], record: Record) -> None:
    """A fact with a ticket of its own says nothing of who performs; its answer ends the holding."""
    match record.fact:
        case ModelTakenOver() | ToolStarted():
            holder[record.address] = record
        case ModelRequested() if record.to == "-":
            holder[record.address] = record
        case _:
            holder.pop(record.address, None)


def _takeover(record: Record, life: Life, faults: Sequence[Fault]) -> Takeover:
    return Takeover(
        seq=record.seq,
        address=record.address,
        seconds=(record.time_ms - life.ended_ms) / MS,
        killed_ms=life.ended_ms,
        by_node=any(
            one.kind.endswith("node")
            and one.began_ms - NODE_SECONDS * MS <= record.time_ms
            and one.ended_ms + NODE_SECONDS * MS >= life.ended_ms
            for one in faults
        ),
        by_worker=any(
            one.victim.startswith("worker") and one.victim != life.part and _meets(one, life.ended_ms, record.time_ms)
            for one in faults
        ),
    )


def _meets(fault: Fault, began_ms: int, ended_ms: int) -> bool:
    return fault.began_ms <= ended_ms and fault.ended_ms >= began_ms


def _pid(record: Record) -> str:
    return record.engine.rpartition("-")[2]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of them do not pass; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 100 * len(ordered)) // 100) - 1))] if ordered else 0.0
