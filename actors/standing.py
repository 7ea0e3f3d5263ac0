"""What an actor must know of a run, read from the log: how its own stands when it begins, and what one it began came to."""

from typing import Any

import msgspec

from actors.child import ChildDone, outcome_of
from actors.decider import Cancel, Command, Pause
from actors.mailbox import Mailbox
from actors.run_state import RunState
from actors.turn import Engine
from events.agent import AgentRequested
from events.envelope import Record
from events.fact import Fact
from events.run import (
    Parent,
    RunCanceled,
    RunCancelRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunTimedOut,
)
from events.subjects import Address, kind_scope

WORDS = RunRequested | RunResumed | RunPaused | RunCancelRequested | RunCanceled | RunFailed | RunTimedOut


async def standing(engine: Engine, record: Record) -> list[Command]:
    """Return what the actor whose first fact is `record` missed: a cancel or a pause of its run. Raises LogUnavailable."""
    match record.fact:
        case AgentRequested():
            above = record.address.at()
        case RunRequested(parent=Parent(run=run)):
            above = Address(record.address.workspace, run)
        case _:
            return []
    fact, seq = await _word(engine, above)
    now_ms = engine.clock.now_ms()
    match fact:
        case RunCancelRequested() | RunCanceled() | RunFailed() | RunTimedOut():
            by = fact.by if isinstance(fact, RunCancelRequested | RunCanceled) else f"run {above.run}"
            return [Cancel(id=f"cmd_late-{seq}", now_ms=now_ms, by=by, reason=fact.reason)]
        case RunPaused(by=by, reason=reason):
            return [Pause(id=f"cmd_late-{seq}", now_ms=now_ms, by=by, reason=reason, at=seq)]
        case _:
            return []


async def _word(engine: Engine, above: Address) -> tuple[Fact | None, int]:
    """Return the run's last word on whether it goes on, and its sequence, as the log's leader knows it."""
    scope = kind_scope(above, "run")
    last = await engine.facts.last(scope)
    record = await engine.facts.peek(scope)
    if record is not None and record.seq >= last and _tells(record):
        return record.fact, record.seq
    box: Mailbox[Any] = engine.boxes.of(above)
    async with box.turn:
        await box.read_to(last)
    return _said(box.state), box.state.held_seq


def _tells(record: Record) -> bool:
    """Whether no earlier fact matters: a start says so only if nothing but the request stands before it."""
    return isinstance(record.fact, WORDS) or (isinstance(record.fact, RunStarted) and record.version == 2)


def _said(state: RunState) -> Fact | None:
    return state.end or state.cancel or state.paused


async def with_outcome(engine: Engine, address: Address, command: ChildDone) -> ChildDone:
    """Return `command` with what the run that it names came to, if it is one under the run of `address` and has ended.

    Raises LogUnavailable.
    """
    child = Address(address.workspace, command.child)
    box: Mailbox[Any] = engine.boxes.of(child)
    async with box.turn:
        await box.read_on()
        outcome = outcome_of(box.state)
    if outcome is None or outcome.parent.run != address.run:
        return command
    engine.boxes.forget(child)
    return msgspec.structs.replace(command, outcome=outcome)
