"""Runs under a run, begun by a door: nobody waits for them but the run above, which does not end before them."""

from typing import Final

from events.ids import derive
from gateway.children import Children
from gateway.gateway import Gateway
from gateway.operations import CreateRun, RunAccepted
from gateway.route import Answered, Caller, once, route


class CreateChild(CreateRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The run to begin under, and what is asked as of a run of its own; a plan's roles are those of the run above."""

    id: str


async def create(gateway: Gateway, caller: Caller, asked: CreateChild) -> Answered:
    """Begin a run under another, from the files at its head."""

    async def act() -> Answered:
        fields = {name: getattr(asked, name) for name in CreateRun.__struct_fields__}
        child = child_of(gateway, caller, asked)
        accepted = await Children(gateway.system).begin(caller.workspace, asked.id, CreateRun(**fields), child=child)
        return Answered(accepted, 202, {"Location": f"/v1/runs/{accepted.id}"})

    return await once(gateway, caller, "runs.spawn", asked=asked, act=act)


def child_of(gateway: Gateway, caller: Caller, asked: CreateChild) -> str:
    """Return the new run's id: with a key always the same, so that a request cut off in the middle begins no second run."""
    if not caller.key:
        return gateway.system.clock.new_id("run")
    return derive("run", 0, caller.workspace, asked.id, caller.key)


ROUTES: Final = (route("runs.spawn", "POST /v1/runs/{id}/children", handle=create, answers=RunAccepted, status=202),)
