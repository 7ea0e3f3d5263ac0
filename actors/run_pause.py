"""A run that pauses: it asks for nothing new, tells its open agents so, and goes on from there when it is resumed. Pure."""

from actors.decider import Pause, Refused, Resume, Send
from actors.run_state import RunState
from events.fact import Fact
from events.run import RunPaused, RunResumed
from events.subjects import Address


def hold(state: RunState, command: Pause) -> list[Fact]:
    """Answer `Pause` and `Resume`: saying it twice is no error, and an older word from the run above changes nothing.

    Raises Refused for a run that has ended or is being canceled.
    """
    if state.end is not None:
        raise Refused("run_ended", "the run has ended; there is nothing to pause or resume", recorded=state.end)
    if state.cancel is not None:
        raise Refused("canceling", f"the run is being canceled by {state.cancel.by}", recorded=state.cancel)
    if command.at and command.at <= state.held_at:
        return []
    if isinstance(command, Resume):
        known = state.paused is None and not command.at
        return [] if known else [RunResumed(by=command.by, reason=command.reason, at=command.at)]
    known = state.paused is not None and not command.at
    return [] if known else [RunPaused(by=command.by, reason=command.reason, at=command.at)]


def held(state: RunState, below: list[tuple[Address, int]]) -> list[Send]:
    """Return the word to those `below` that were asked for (at the sequence beside each) before the run paused or resumed.

    Those asked for later hear it when they begin (actors/standing.py).
    """
    if not state.held_seq:
        return []
    verb = "pause" if state.paused is not None else "resume"
    body = {"by": state.held_by, "reason": state.held_reason, "at": state.held_seq}
    return [
        Send(
            asked=state.held_seq,
            address=address,
            verb=verb,
            id=f"cmd_{verb}-{address.run if address.kind == 'run' else address.step}-{state.held_seq}",
            body=body,
        )
        for address, asked in below
        if asked < state.held_seq
    ]
