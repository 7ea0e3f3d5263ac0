"""A call that began a run: it waits for it without a worker, and ends once with what it came to. Pure."""

from actors.child import ChildDone, words
from actors.tool_outcome import ToolReturned
from actors.tool_state import ToolState
from events.fact import Fact
from events.tool import ToolCompleted, ToolFailed, ToolRefused, ToolWaiting


def waits(state: ToolState, command: ToolReturned) -> list[Fact]:
    """Take in that the call began a run and ends with it; the run may have ended before."""
    epoch, end = command.epoch, state.end
    if state.child or (isinstance(end, ToolCompleted | ToolFailed) and end.epoch == epoch):
        return []
    if end is not None:
        return [ToolRefused(epoch=epoch, reason="the call had ended")]
    if epoch != state.epoch:
        return [ToolRefused(epoch=epoch, reason=f"stale_epoch: epoch {state.epoch} performs it now")]
    return [ToolWaiting(epoch=epoch, child=command.child)]


def child_done(state: ToolState, command: ChildDone) -> list[Fact]:
    """End the call with the result of the run it began.

    The run may be quicker than the call's own worker: then the call ends before it was known to wait.
    """
    outcome, address, epoch = command.outcome, state.address, state.epoch
    if outcome is None or (outcome.parent.run, outcome.parent.call) != (address.run, address.call):
        return []
    text = words(command.child, outcome)
    if outcome.status != "succeeded":
        return [ToolFailed(epoch=epoch, code=f"child_{outcome.status}", reason=text)]
    data = {
        "run": command.child,
        "status": outcome.status,
        "summary": outcome.summary,
        "artifacts": [artifact.name for artifact in outcome.artifacts],
        "usage": {"cost_micros": outcome.usage.cost_micros, "model_calls": outcome.usage.model_calls},
    }
    return [
        ToolCompleted(
            epoch=epoch,
            text=text,
            data=data,
            changes=outcome.changes,
            artifacts=outcome.artifacts,
            child=command.child,
        )
    ]
