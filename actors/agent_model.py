"""What comes of an agent's model calls: answers, failures with their retries, and outcomes that come too late. Pure."""

from typing import Final, Literal

from actors.agent_state import AgentState
from actors.decider import (
    Command,
)
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
from events.subjects import Address

MODEL_ATTEMPTS_MAX: Final = 8
BACKOFF_MS: Final = 500
BACKOFF_MS_MAX: Final = 60_000


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
    if command.kind != "never" and attempt < MODEL_ATTEMPTS_MAX:
        retry_at = command.now_ms + max(command.retry_after_ms, _backoff_ms(state.address, attempt))
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


def _backoff_ms(address: Address, attempt: int) -> int:
    """Double from half a second to a minute, with a jitter that the agent's own address gives (deciders hold no dice)."""
    base = min(BACKOFF_MS << (attempt - 1), BACKOFF_MS_MAX)
    jitter = int(derive("j", 0, str(address), attempt)[-4:].encode().hex(), 16) % 1000
    return base + base * jitter // 2000


def _refusal(state: AgentState, turn: int, epoch: int) -> ModelRefused | None:
    if state.end is not None or state.cancel is not None:
        return ModelRefused(turn=turn, epoch=epoch, reason="the agent had ended or was told to stop")
    asked = state.model
    if asked is None or asked.turn != turn or asked.failed_seq:
        return ModelRefused(turn=turn, epoch=epoch, reason="this turn has its outcome")
    if asked.epoch != epoch:
        return ModelRefused(turn=turn, epoch=epoch, reason=f"stale_epoch: epoch {asked.epoch} performs it now")
    return None


def retry(state: AgentState, now_ms: int) -> list[Fact]:
    asked = state.model
    if asked is None or not asked.retry_at or now_ms < asked.retry_at or state.cancel is not None:
        return []
    return [ModelRequested(turn=asked.turn, attempt=asked.attempt + 1)]
