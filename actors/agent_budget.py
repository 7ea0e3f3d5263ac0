"""How an agent draws on its slice: each model call reserves its worst case before it is made, each tool call one.

What does not fit is asked of the run; until the grant comes the agent holds nothing and waits. Without a budget nothing here
says or asks anything. Pure.
"""

from msgspec.structs import replace

from actors import budget
from actors.agent_state import AgentState, Call, blocks_of
from actors.decider import Command
from actors.model import Block, Text, Thinking, ToolResult
from events.agent import Item, ModelFailed, ModelReissued, ModelRequested, ModelTakenOver
from events.budget import Amount, BudgetAsked, BudgetOverdrawn, BudgetReceived, Grant
from events.fact import Fact, Usage


class TakeGrant(Command, frozen=True, kw_only=True):
    """The run answers the `budget.asked` at `asked`: the agent's whole grant is `grant` now."""

    asked: int
    grant: Grant


def granted(state: AgentState, command: TakeGrant) -> list[Fact]:
    if not state.asking or command.asked != state.asking:
        return []
    return [BudgetReceived(asked=command.asked, grant=command.grant)]


def drawn(state: AgentState, facts: list[Fact], now_ms: int) -> list[Fact]:
    """Give the model calls among `facts` their reservations; what does not fit the slice is asked for instead."""
    if state.grant is None:
        return facts
    if state.asking:
        return [fact for fact in facts if not isinstance(fact, ModelRequested)]
    return [_drawn(state, state.grant, fact, now_ms) for fact in facts]


def _drawn(state: AgentState, grant: Grant, fact: Fact, now_ms: int) -> Fact:
    match fact:
        case ModelRequested():
            reserve = _reserve(state, grant, fact.takes)
            if reserve is None or _late(grant, now_ms):
                return BudgetAsked(turn=state.turn, need=_least(state, fact.takes), usage=state.usage)
            return replace(fact, reserve=reserve[0], tokens_max=reserve[1])
        case ModelTakenOver() | ModelReissued():
            return _again(state, grant, fact, now_ms)
        case _:
            return fact


def _again(state: AgentState, grant: Grant, fact: ModelTakenOver | ModelReissued, now_ms: int) -> Fact:
    """Charge a lost call as its reservation; if the slice has no second one, the call failed and is asked again."""
    asked = state.model
    if asked is None or asked.reserve is None:
        return fact
    usage = _charged(asked.reserve, asked.tokens_max)
    rest = budget.left(grant, budget.spent(state.usage + usage))
    if not budget.lacking(asked.reserve, rest):
        return replace(fact, usage=usage)
    reason = "its worker was lost in this call, and its slice of the budget has no second one"
    return ModelFailed(
        turn=asked.turn, epoch=asked.epoch, code="worker_lost", reason=reason, retry_at=now_ms, usage=usage
    )


def _charged(reserve: Amount, tokens_max: int) -> Usage:
    return Usage(
        input_tokens=reserve.tokens - tokens_max,
        output_tokens=tokens_max,
        cost_micros=reserve.cost_micros,
        model_calls=reserve.model_calls,
    )


def overdrawn(state: AgentState) -> list[Fact]:
    """Tell of a use above its reservation, once."""
    return [BudgetOverdrawn(turn=state.turn, over=state.over)] if state.over != Amount() else []


def _late(grant: Grant, now_ms: int) -> bool:
    return 0 < grant.until <= now_ms


def _reserve(state: AgentState, grant: Grant, takes: tuple[Item, ...]) -> tuple[Amount, int] | None:
    """What the next model call takes at worst and how long its answer may be; None if the slice does not hold it."""
    rate = state.request.rate if state.request else None
    if rate is None:
        return None
    size = _input_tokens(state, takes)
    output = budget.output_that_fits(rate, budget.left(grant, budget.spent(state.usage)), input_tokens=size)
    return (budget.call_amount(rate, input_tokens=size, output_tokens=output), output) if output else None


def _least(state: AgentState, takes: tuple[Item, ...]) -> Amount:
    """What the next model call takes at least."""
    if state.request is None:
        return Amount(model_calls=1)
    size = _input_tokens(state, takes)
    return budget.call_amount(state.request.rate, input_tokens=size, output_tokens=budget.OUTPUT_TOKENS_MIN)


def _input_tokens(state: AgentState, takes: tuple[Item, ...]) -> int:
    said = sum(_size(block) for message in state.messages for block in message.blocks)
    new = sum(_size(block) for item in takes for block in blocks_of(state, item))
    return (state.request.rate.overhead if state.request else 0) + budget.tokens_of(said + new)


def _size(block: Block | ToolResult) -> int:
    match block:
        case Text(text=text) | ToolResult(text=text):
            return len(text.encode(errors="surrogatepass"))
        case Thinking(text=text, signature=signature):
            return len(text.encode(errors="surrogatepass")) + len(signature)
        case _:
            return len(block.name) + len(bytes(block.arguments))


# tool calls


def funded(state: AgentState, call: Call) -> bool:
    """Tell whether the slice has this tool call: calls are paid in the order they were asked for."""
    if state.grant is None or state.grant.tool_calls is None or not call.counted:
        return True
    counted = [one.id for one in state.calls.values() if one.counted]
    return counted.index(call.id) < state.grant.tool_calls


def ask_for_calls(state: AgentState) -> list[Fact]:
    """Ask for the tool calls that the slice lacks, once nothing else is under way."""
    if state.open_calls() or funded(state, state.unfinished_calls()[0]):
        return []
    return [BudgetAsked(turn=state.turn, need=_least(state, ()) + Amount(tool_calls=1), usage=state.usage)]
