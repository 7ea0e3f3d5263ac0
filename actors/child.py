"""What a run that another one began comes to, for those who wait for it. Pure.

Nobody is told a result: `child_done` only names the run, and whoever takes it in reads the run itself.
"""

from typing import Final

import msgspec

from actors.decider import Command
from actors.run_state import RunState
from events.fact import Artifact, Changes, File, Usage
from events.run import Parent, RunCanceled, RunFailed, RunSucceeded, RunTimedOut

ARTIFACTS_TOLD: Final = 50


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: its state word, its last sequence, and what it leaves; `changes` are against the files it began with."""

    parent: Parent
    seq: int
    status: str
    goal: str
    summary: str = ""
    code: str = ""
    reason: str = ""
    artifacts: tuple[Artifact, ...] = ()
    changes: Changes = {}
    usage: Usage = Usage()


class ChildDone(Command, frozen=True, kw_only=True):
    """The run `child` is said to have ended; `outcome` is what its own facts say, None if they say nothing."""

    child: str
    outcome: Outcome | None = None


def outcome_of(state: RunState) -> Outcome | None:
    """Return what a run came to, None if it has no parent or has not ended."""
    request, end = state.request, state.end
    if request is None or request.parent is None or end is None:
        return None
    made = Outcome(
        parent=request.parent,
        seq=state.seen.last,
        status="failed",
        goal=request.goal,
        artifacts=tuple(state.artifacts.values()),
        usage=state.usage,
    )
    match end:
        case RunSucceeded(summary=summary):
            changes = _changes(state, request.files)
            return msgspec.structs.replace(made, status="succeeded", summary=summary, changes=changes)
        case RunFailed(code=code, reason=reason):
            return msgspec.structs.replace(made, code=code, reason=reason)
        case RunTimedOut(reason=reason):
            return msgspec.structs.replace(made, status="timed_out", code="timed_out", reason=reason)
        case RunCanceled(by=by, reason=reason):
            return msgspec.structs.replace(made, status="canceled", code="canceled", reason=reason or f"by {by}")


def _changes(state: RunState, base: dict[str, File]) -> Changes:
    pairs = {path: (base.get(path), state.head.get(path)) for path in sorted({*base, *state.head})}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def words(child: str, outcome: Outcome) -> str:
    """Return what a model reads of a run that ended."""
    if outcome.status != "succeeded":
        return f"Run {child} {outcome.status}: {outcome.code}: {outcome.reason}"
    lines = [f"Run {child} succeeded: {outcome.summary}"]
    if outcome.artifacts:
        names = [artifact.name for artifact in outcome.artifacts]
        more = f" and {len(names) - ARTIFACTS_TOLD} more" if len(names) > ARTIFACTS_TOLD else ""
        lines.append(f"Its artifacts: {', '.join(names[:ARTIFACTS_TOLD])}{more}")
    return "\n".join(lines)
