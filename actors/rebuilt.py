"""The commands that a recorded fact may have come of, rebuilt from its notice and from what the fact repeats of them. Pure."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

import msgspec

from actors.agent_budget import TakeGrant
from actors.agent_model import ModelAnswered, ModelRaised
from actors.child import ChildDone, Outcome
from actors.dead_letter import CloseReplayed, Purge, RecordLetter
from actors.decider import (
    Advance,
    Cancel,
    Command,
    Nudge,
    Pause,
    Resume,
    TakeOver,
    Terminate,
    TimerFired,
    TurnRaised,
)
from actors.notices import command_of
from actors.run import StartRun
from actors.run_budget import RaiseBudget
from actors.run_children import Spawn
from actors.run_claims import AllotBudget
from actors.run_letters import ReopenStep
from actors.tool_approval import Decide
from actors.tool_outcome import ToolRaised, ToolReturned
from actors.workspace_budget import LimitWorkspace, ReserveBudget, ReturnBudget
from events.budget import Budget
from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed
from events.envelope import Record
from events.fact import Usage
from events.ids import decode
from events.run import Parent, RunChildEnded, RunRequested
from events.subjects import ActorKind

EMBEDDED_MS_MAX: Final = 600_000
_ID: Final = re.compile(rb"[a-z]{3,4}_([0-7][0-9a-hjkmnp-tv-z]{25})")
_TIMER: Final = re.compile(r"cmd_timer-(.+)-[0-9]+")


class _AllLost(dict[str, int]):
    """Ack floors under which every ticket is lost: what the real ones were is not in the record."""

    def get(self, key: str, default: Any = None, /) -> Any:
        del key, default
        return 2**63


COMMANDS: Final[Mapping[ActorKind, tuple[type[Command], ...]]] = {
    "run": (
        Cancel,
        Terminate,
        Pause,
        Resume,
        TimerFired,
        TurnRaised,
        RaiseBudget,
        AllotBudget,
        ReopenStep,
        Spawn,
        Nudge,
    ),
    "agent": (ModelAnswered, ModelRaised, Cancel, Pause, Resume, TimerFired, TurnRaised, TakeGrant, Nudge),
    "budget": (LimitWorkspace, ReserveBudget, ReturnBudget),
    "tool": (ToolReturned, ToolRaised, Decide, Cancel, TimerFired, TurnRaised, Nudge),
}
UNKNOWN: Final[Mapping[type[Command], Mapping[str, tuple[Any, ...]]]] = {
    ModelAnswered: {"content": ((),), "stop": ("end_turn",), "model": ("",), "usage": (Usage(),)},
    ModelRaised: {"kind": ("never", "back_off", "retry_after"), "code": ("",), "reason": ("",)},
    ToolReturned: {"text": ("",)},
    ToolRaised: {"code": ("",), "reason": ("",), "retryable": (False, True), "unsure": (False, True)},
    RaiseBudget: {"add": (Budget(),)},
    Nudge: {"floors": (_AllLost(),)},
}
"""What a command holds that its fact does not repeat: the values worth trying."""


Children = Mapping[str, RunChildEnded]
"""How the runs under this one ended, as far as the record tells."""


def commands(record: Record, notice: Record | None, now_ms: int, *, children: Children) -> Iterator[Command]:
    """Yield the commands that `record` may have come of at `now_ms`, the likeliest first; `notice` is what caused it, if one did."""
    if record.address.run == "-" and record.address.kind != "budget":
        yield from _of_letter(record, now_ms)
        return
    told: dict[str, Any] = {"id": record.causation, "now_ms": now_ms}
    if isinstance(record.fact, RunRequested):
        yield StartRun(**told, request=record.fact)
        return
    if notice is not None:
        yield command_of(notice, now_ms=now_ms)
        yield Advance(**told, ticket=notice.seq)
        yield TakeOver(**told, ticket=notice.seq)
    else:
        yield Advance(**told)
    if (done := _child_done(record, children, told)) is not None:
        yield done
    for type_ in COMMANDS[record.address.kind]:
        yield from _filled(type_, record, told)


def _child_done(record: Record, children: Children, told: dict[str, Any]) -> ChildDone | None:
    """Return the word of a child's end as its parent took it in: the child itself is another record."""
    fact: Any = record.fact
    end = fact if isinstance(fact, RunChildEnded) else children.get(getattr(fact, "child", ""))
    if end is None:
        return None
    outcome = Outcome(
        parent=Parent(run=record.address.run, depth=1, step=record.address.step, call=record.address.call),
        seq=end.seq,
        status=end.status,
        goal="",
        summary=end.summary,
        code=end.code,
        reason=end.reason,
        artifacts=end.artifacts,
        changes=getattr(fact, "changes", {}),
        usage=end.usage,
    )
    return ChildDone(**told, child=end.child, outcome=outcome)


def _of_letter(record: Record, now_ms: int) -> Iterator[Command]:
    told: dict[str, Any] = {"id": record.causation, "now_ms": now_ms}
    match record.fact:
        case DeadLetterRecorded() as letter:
            yield RecordLetter(**told, letter=letter)
        case DeadLetterReplayed(by=by, way=way, made=made):
            yield CloseReplayed(**told, by=by, way=way, made=made)
        case DeadLetterPurged(by=by):
            yield Purge(**told, by=by)
        case _:
            return


def times(record: Record) -> Iterator[int]:
    """Yield when the decision may have been made (ms since the epoch): when it was stored, or what its ids say."""
    yield record.time_ms
    seen = {record.time_ms}
    for match in _ID.finditer(record.body):
        at = decode(match[1].decode()) >> 80
        if at not in seen and abs(record.time_ms - at) < EMBEDDED_MS_MAX:
            seen.add(at)
            yield at


def _filled(type_: type[Command], record: Record, told: dict[str, Any]) -> Iterator[Command]:
    """Yield commands of a type whose fields are what the fact has under the same names, or worth trying."""
    choices: dict[str, tuple[Any, ...]] = {}
    for field in msgspec.structs.fields(type_):
        if field.name in told or field.name == "ticket":
            continue
        values = _values(type_, field.name, record, now_ms=told["now_ms"])
        if values:
            choices[field.name] = values
        elif field.required:
            return
    for values in product(*choices.values()):
        yield type_(**told, **dict(zip(choices, values, strict=True)))


def _values(type_: type[Command], name: str, record: Record, *, now_ms: int) -> tuple[Any, ...]:
    fact: Any = record.fact
    if name == "timer":
        match = _TIMER.fullmatch(record.causation)
        return (match[1],) if match else ()
    if name == "retry_after_ms":
        return (0, max(0, getattr(fact, "retry_at", 0) - now_ms))
    if hasattr(fact, name):
        value = getattr(fact, name)
        return (bytes(value),) if isinstance(value, msgspec.Raw) else (value,)
    return UNKNOWN.get(type_, {}).get(name, ())
