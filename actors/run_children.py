"""Runs under a run: wanted by an agent's call or by a door, told to stop and pause with it, and awaited before it ends. Pure."""

from typing import Final

from actors.child import ChildDone
from actors.decider import Command, Create, Refused, Send, Want
from actors.run_claims import below
from actors.run_state import Child, RunState
from events.fact import Fact
from events.run import Parent, RunChildEnded, RunChildRequested, RunRequested
from events.subjects import Address

REASON_CHARS_MAX: Final = 4_000


class Spawn(Command, frozen=True, kw_only=True):
    """The call at `step` and `call`, or a door, wants the run `child` under this one; with `wait` the call ends with it."""

    child: str
    request: RunRequested
    step: str = ""
    call: str = ""
    wait: bool = False


def child_id(call: str) -> str:
    """Return the id of the run that a call begins: the call's digits under `run_`, so that asking twice begins one."""
    return f"run_{call.partition('_')[2]}"


def spawn(state: RunState, request: RunRequested, command: Spawn) -> list[Fact]:
    """Answer a wish for a run; raises Refused naming the limit it would break."""
    if command.child in state.children:
        return []
    if state.end is not None:
        raise Refused("run_ended", "the run has ended; nothing can begin under it", recorded=state.end)
    if state.cancel is not None or state.failed_step() is not None:
        raise Refused("stopping", "the run is being stopped; nothing can begin under it")
    depth, limits = depth_of(request) + 1, request.limits
    if depth > limits.depth_max:
        raise Refused("depth_max", f"limits.depth_max: at most {limits.depth_max} runs stand above a run; do it here")
    if len(state.children) >= limits.children_max:
        raise Refused("children_max", f"limits.children_max: a run begins at most {limits.children_max} others in all")
    return [
        RunChildRequested(
            child=command.child,
            request=below(state, command.request, command.now_ms),
            step=command.step,
            call=command.call,
            wait=command.wait,
        )
    ]


def depth_of(request: RunRequested) -> int:
    """Return how many runs stand above the one that `request` asked for."""
    return request.parent.depth if request.parent else 0


def parent_of(state: RunState, request: RunRequested, *, step: str, call: str) -> Parent:
    """Return what the first fact of a run says of the run it stands under."""
    return Parent(run=state.address.run, depth=depth_of(request) + 1, step=step, call=call)


def child_done(state: RunState, command: ChildDone) -> list[Fact]:
    """Record the end of a run under this one, once."""
    child, outcome = state.children.get(command.child), command.outcome
    if child is None or child.ended or outcome is None:
        return []
    return [
        RunChildEnded(
            child=child.id,
            seq=outcome.seq,
            status=outcome.status,
            summary=outcome.summary,
            code=outcome.code,
            reason=outcome.reason[:REASON_CHARS_MAX],
            artifacts=outcome.artifacts,
            usage=outcome.usage,
        )
    ]


def wanted(state: RunState) -> list[Want]:
    """Return the runs to begin."""
    return [Want(asked=child.asked, address=address_of(state, child)) for child in state.open_children()]


def create_child(state: RunState, want: Want) -> Create:
    """Return the first fact of a run that is wanted."""
    child = state.children[want.address.run]
    return Create(asked=want.asked, address=want.address, fact=child.request, to="run")


def told(state: RunState) -> list[Send]:
    """Return the word of a run's end: to the call that waits for it, or to the agent that began it, while it is at work."""
    open_ = {step.actor for step in state.open_steps()}
    return [
        Send(
            asked=child.ended,
            address=state.address.at(child.step, child.call if child.wait else "-"),
            verb="child_done",
            id=f"cmd_done-{child.id}",
            body={"child": child.id},
        )
        for child in state.children.values()
        if child.ended and child.step in open_
    ]


def reported(state: RunState) -> list[Send]:
    """Return the word of this run's own end, to the run it stands under."""
    parent = state.request.parent if state.request else None
    if parent is None or state.end is None:
        return []
    return [
        Send(
            asked=state.seen.last,
            address=Address(state.address.workspace, parent.run),
            verb="child_done",
            id=f"cmd_done-{state.address.run}",
            body={"child": state.address.run},
        )
    ]


def abandoned(state: RunState) -> list[Address]:
    """Return the open runs whose result nobody can take any more: the agent of the call that waited has ended."""
    open_ = {step.actor for step in state.open_steps()}
    return [address_of(state, child) for child in state.open_children() if child.wait and child.step not in open_]


def address_of(state: RunState, child: Child) -> Address:
    """Return where a run under this one stands."""
    return Address(state.address.workspace, child.id)
