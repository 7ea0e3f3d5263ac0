"""What an actor must know when it begins: the run it belongs to may have been canceled or paused before it was there to be told."""

from typing import Any

from actors.decider import Cancel, Command, Pause
from actors.mailbox import Mailbox
from actors.run_state import RunState
from actors.turn import Engine
from events.agent import AgentRequested
from events.envelope import Record
from events.fact import Fact
from events.run import RunCanceled, RunCancelRequested, RunFailed, RunPaused, RunRequested, RunResumed, RunStarted
from events.subjects import Address, kind_scope

GOES_ON = RunRequested | RunStarted | RunResumed
STOPPED = RunCancelRequested | RunCanceled | RunFailed


async def standing(engine: Engine, record: Record) -> list[Command]:
    """Return what the actor whose first fact is `record` missed: a cancel or a pause of its run. Raises LogUnavailable."""
    match record.fact:
        case AgentRequested():
            above = record.address.at()
        case _:
            return []
    fact, seq = await _word(engine, above)
    now_ms = engine.clock.now_ms()
    match fact:
        case RunCancelRequested() | RunCanceled() | RunFailed():
            by = f"run {above.run}" if isinstance(fact, RunFailed) else fact.by
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
    if record is not None and record.seq >= last and isinstance(record.fact, GOES_ON | STOPPED | RunPaused):
        return record.fact, record.seq
    box: Mailbox[Any] = engine.boxes.of(above)
    async with box.turn:
        await box.read_to(last)
    return _said(box.state), box.state.held_seq


def _said(state: RunState) -> Fact | None:
    return state.end or state.cancel or state.paused
