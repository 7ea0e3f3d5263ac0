"""What an agent makes of runs it began: their ends go into its next model call, their files onto its branch if they fit. Pure."""

from msgspec.structs import replace

from actors.agent_state import AgentState
from actors.child import ChildDone, words
from events.agent import AgentChildEnded, FromChild, ModelRequested
from events.fact import Fact


def child_done(state: AgentState, command: ChildDone) -> list[Fact]:
    """Record the end of a run that the agent began and did not wait for, once."""
    outcome = command.outcome
    mine = outcome is not None and (outcome.parent.run, outcome.parent.step) == (state.address.run, state.address.step)
    if outcome is None or not mine or command.child in state.children or state.cancel is not None:
        return []
    return [AgentChildEnded(child=command.child, status=outcome.status, text=words(command.child, outcome))]


def with_news(state: AgentState, facts: list[Fact]) -> list[Fact]:
    """Let the next new model call take in the runs that ended and that no call has taken in yet."""
    news = tuple(FromChild(child) for child in state.untold)
    return [
        replace(fact, takes=(*fact.takes, *news)) if isinstance(fact, ModelRequested) and fact.attempt == 1 else fact
        for fact in facts
    ]
