"""What comes of performing a call: its one accepted outcome, a retry, or a late one that is refused and recorded. Pure."""

from typing import Any, Final

from actors.backoff import backoff_ms
from actors.decider import Command
from actors.tool_state import ToolState
from actors.tool_unknown import NOT_DONE, UNKNOWN, ask_human, cut_off
from events.fact import Artifact, Changes, Fact
from events.tool import ToolAttemptFailed, ToolCompleted, ToolFailed, ToolRefused, ToolReissued

RETRY: Final = "retry"


class ToolReturned(Command, frozen=True, kw_only=True):
    """The effect performed in `epoch` came back; for a probe: it found that the effect had happened. With `child` the call ends
    with that run.
    """

    epoch: int
    text: str
    data: Any = None
    changes: Changes = {}
    artifacts: tuple[Artifact, ...] = ()
    duration_ms: int = 0
    child: str = ""


class ToolRaised(Command, frozen=True, kw_only=True):
    """The effect performed in `epoch` failed, for a reason that the model is to read.

    `retryable`: another attempt may go well. `unsure`: the effect may have happened all the same, as after a timeout.
    """

    epoch: int
    code: str
    reason: str
    duration_ms: int = 0
    retryable: bool = False
    unsure: bool = False


Outcome = ToolReturned | ToolRaised


def settle(state: ToolState, command: Outcome) -> list[Fact]:
    """Take an outcome in, once; one of an old epoch or after the end is refused."""
    epoch = command.epoch
    if state.end is not None:
        return [] if _brought(state.end, command) else [ToolRefused(epoch=epoch, reason="the call had ended")]
    if epoch == state.cut_off:
        return _late(command)
    if epoch != state.epoch:
        return [ToolRefused(epoch=epoch, reason=f"stale_epoch: epoch {state.epoch} performs it now")]
    if state.retry_at:
        return []
    if isinstance(command, ToolReturned):
        return [_completed(command)]
    return _probe_raised(state, command) if state.cut_off else _raised(state, command)


def _brought(end: Fact, command: Outcome) -> bool:
    """Tell whether this very outcome made the end: its answer was lost, and it is brought once more."""
    match command:
        case ToolReturned():
            return end == _completed(command)
        case ToolRaised() if isinstance(end, ToolFailed) and end.code == UNKNOWN:
            return command.unsure and end.reason.startswith(_words(command))
        case _:
            return end == _failed(command)


def _words(command: ToolRaised) -> str:
    return f"{command.code}: {command.reason}"


def _late(command: Outcome) -> list[Fact]:
    """An outcome of the epoch that was cut off settles the call, unless it knows no more than everybody."""
    if isinstance(command, ToolReturned):
        return [_completed(command)]
    if command.unsure:
        return [ToolRefused(epoch=command.epoch, reason="it does not know either whether it happened")]
    return [_failed(command)]


def _raised(state: ToolState, command: ToolRaised) -> list[Fact]:
    request = state.request
    if request is None:
        return []
    if request.effect == "unsafe":
        return cut_off(state, _words(command)) if command.unsure else [_failed(command)]
    return _again(state, command) or [_failed(command)]


def _probe_raised(state: ToolState, command: ToolRaised) -> list[Fact]:
    if command.code == NOT_DONE:
        return [_failed(command)]
    return (_again(state, command) or ask_human(state, command.now_ms)) if state.probing else []


def _again(state: ToolState, command: ToolRaised) -> list[Fact]:
    request, attempt = state.request, state.attempts + 1
    if request is None or not command.retryable or attempt >= request.attempts_max:
        return []
    wait_ms = backoff_ms(state.address, attempt, first_ms=round(request.backoff_seconds * 1000))
    return [
        ToolAttemptFailed(
            epoch=command.epoch,
            attempt=attempt,
            code=command.code,
            reason=command.reason,
            retry_at=command.now_ms + wait_ms,
            probe=state.probing,
        )
    ]


def retried(state: ToolState) -> list[Fact]:
    """Issue the next attempt, whose wait is over."""
    return [ToolReissued(epoch=state.epoch + 1)] if state.retry_at else []


def _completed(command: ToolReturned) -> ToolCompleted:
    return ToolCompleted(
        epoch=command.epoch,
        text=command.text,
        data=command.data,
        changes=command.changes,
        artifacts=command.artifacts,
        duration_ms=command.duration_ms,
    )


def _failed(command: ToolRaised) -> ToolFailed:
    return ToolFailed(epoch=command.epoch, code=command.code, reason=command.reason, duration_ms=command.duration_ms)
