"""What comes of an agent's model calls: answers, failures with their retries, and outcomes that come too late. Pure."""

from typing import Literal

from actors.agent_state import AgentState
from actors.backoff import backoff_ms
from actors.decider import Command, is_due
from events.agent import (
    Block,
    ModelFailed,
    ModelRefused,
    ModelRequested,
    ModelResponded,
    ToolUse,
)
from events.fact import Fact, Usage
from events.ids import derive
from events.run import Limits


class ModelAnswered(Command, frozen=True, kw_only=True):
    """The model call of `turn`, performed in `epoch`, was answered in full."""

    turn: int
    epoch: int
    content: tuple[Block, ...]
    stop: Literal["end_turn", "tool_use", "max_tokens", "refusal"]
    model: str
    usage: Usage


class ModelRaised(Command, frozen=True, kw_only=True):
    """The model call gave no answer; `kind` says what a retry can do."""

    turn: int
    epoch: int
    kind: Literal["retry_after", "back_off", "never"]
    code: str
    reason: str
    retry_after_ms: int = 0
    usage: Usage = Usage()


def answered(state: AgentState, command: ModelAnswered) -> list[Fact]:
    if state.answer is not None and (state.answer.turn, state.answer.epoch) == (command.turn, command.epoch):
        return []
    if (refusal := _refusal(state, command.turn, command.epoch)) is not None:
        return [refusal]
    place = 0
    content: list[Block] = []
    for block in command.content:
        if isinstance(block, ToolUse):
            place += 1
            call = derive("call", command.now_ms, str(state.address), command.turn, place)
            block = ToolUse(id=block.id, name=block.name, arguments=block.arguments, call=call)  # noqa: PLW2901 -- same block, our id on it
        content.append(block)
    return [
        ModelResponded(
            turn=command.turn,
            epoch=command.epoch,
            content=tuple(content),
            stop=command.stop,
            model=command.model,
            usage=command.usage,
        )
    ]


def raised(state: AgentState, command: ModelRaised) -> list[Fact]:
    asked = state.model
    if asked is not None and asked.failed_seq and (asked.turn, asked.epoch) == (command.turn, command.epoch):
        return []
    if (refusal := _refusal(state, command.turn, command.epoch)) is not None:
        return [refusal]
    attempt = state.model.attempt if state.model else 1
    retry_at = 0
    limits = state.request.limits if state.request else Limits()
    if command.kind != "never" and attempt < limits.model_attempts_max:
        wait_ms = backoff_ms(state.address, attempt, first_ms=limits.model_backoff_ms)
        retry_at = command.now_ms + max(command.retry_after_ms, wait_ms)
    return [
        ModelFailed(
            turn=command.turn,
            epoch=command.epoch,
            code=command.code,
            reason=command.reason,
            retry_at=retry_at,
            usage=command.usage,
        )
    ]


def _refusal(state: AgentState, turn: int, epoch: int) -> ModelRefused | None:
    if state.end is not None or state.cancel is not None:
        return ModelRefused(turn=turn, epoch=epoch, reason="the agent had ended or was told to stop")
    asked = state.model
    if asked is None or asked.turn != turn or asked.failed_seq:
        return ModelRefused(turn=turn, epoch=epoch, reason="this turn has its outcome")
    if asked.epoch != epoch:
        return ModelRefused(turn=turn, epoch=epoch, reason=f"stale_epoch: epoch {asked.epoch} performs it now")
    return None


def retry(state: AgentState, command: Command) -> list[Fact]:
    asked = state.model
    if asked is None or state.cancel is not None or not is_due(command, asked=asked.failed_seq, at_ms=asked.retry_at):
        return []
    return [ModelRequested(turn=asked.turn, attempt=asked.attempt + 1)]
