"""An agent that pauses: what it asked for before is done and stored, and nothing new is asked until it is resumed. Pure."""

from actors.agent_state import AgentState
from actors.decider import Pause, Resume
from events.agent import AgentPaused, AgentResumed
from events.fact import Fact


def hold(state: AgentState, command: Pause) -> list[Fact]:
    """Answer `Pause` and `Resume`; two words can come in the wrong order, so the newer one by `at` counts, and is recorded."""
    if state.cancel is not None or (command.at and command.at <= state.held_at):
        return []
    if isinstance(command, Resume):
        known = not state.paused and not command.at
        return [] if known else [AgentResumed(by=command.by, reason=command.reason, at=command.at)]
    known = state.paused and not command.at
    return [] if known else [AgentPaused(by=command.by, reason=command.reason, at=command.at)]


def begun(state: AgentState) -> bool:
    """Tell whether the agent has asked for anything yet: until then it stands in its role's queue."""
    return bool(state.turn or state.checks)
