"""How a notice is read: which actor it is for, and what it is a command to do there. Pure."""

from actors.decider import Advance, Command
from actors.run_results import AgentEnded, CallEnded
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded
from events.envelope import Record
from events.subjects import Address
from events.tool import ToolCanceled, ToolCompleted, ToolFailed, ToolOutcomeUnknown


def addressee(record: Record) -> Address:
    """Return the actor that a notice is for."""
    if record.to == "run":
        return record.address.at()
    if record.to.startswith("tool-"):
        return record.address
    return record.address.at(record.address.step)


def command_of(record: Record, *, now_ms: int) -> Command:
    """Read a notice as a command to the actor it is addressed to."""
    id_, seq = str(record.seq), record.seq
    match record.fact:
        case AgentSucceeded() | AgentFailed() | AgentCanceled() as end:
            return AgentEnded(id=id_, now_ms=now_ms, ticket=seq, actor=record.address.step, seq=seq, end=end)
        case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown() as end if record.to == "run":
            return CallEnded(id=id_, now_ms=now_ms, ticket=seq, call=record.address.call, end=end)
        case _:
            return Advance(id=id_, now_ms=now_ms, ticket=seq)
