"""How a notice is read: which actor it is for, and what it is a command to do there. Pure."""

from actors.decider import Advance, Command
from actors.run_budget import AgentAsked
from actors.run_results import AgentEnded, CallEnded
from events.agent import AgentCanceled, AgentFailed, AgentSucceeded
from events.budget import BudgetAsked
from events.envelope import Record
from events.subjects import Address
from events.tool import ToolCanceled, ToolCompleted, ToolFailed, ToolOutcomeUnknown


def addressee(record: Record) -> Address:
    """Return the actor that a notice is for."""
    if record.address.kind == "budget":
        return record.address
    if record.to == "run":
        return record.address.at()
    if record.to.startswith("tool-"):
        return record.address
    return record.address.at(record.address.step)


def command_of(record: Record, id_: str = "", *, now_ms: int) -> Command:
    """Read a notice as a command to the actor it is addressed to, under its sequence unless another id is told."""
    id_, seq, actor = id_ or str(record.seq), record.seq, record.address.step
    match record.fact:
        case AgentSucceeded() | AgentFailed() | AgentCanceled() as end:
            return AgentEnded(id=id_, now_ms=now_ms, ticket=seq, actor=actor, seq=seq, end=end)
        case BudgetAsked(need=need, usage=usage):
            return AgentAsked(id=id_, now_ms=now_ms, ticket=seq, actor=actor, seq=seq, need=need, usage=usage)
        case ToolCompleted() | ToolFailed() | ToolCanceled() | ToolOutcomeUnknown() as end if record.to == "run":
            return CallEnded(id=id_, now_ms=now_ms, ticket=seq, call=record.address.call, end=end)
        case _:
            return Advance(id=id_, now_ms=now_ms, ticket=seq)
