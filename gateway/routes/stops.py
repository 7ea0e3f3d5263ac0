"""Runs: stop, pause and let go on. Each says the same when it is said twice."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from gateway import views
from gateway.gateway import Gateway
from gateway.operations import CancelRun
from gateway.route import Answered, Caller, once, route


class TellRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which run to tell, why, and in whose name."""

    id: str
    reason: str = ""
    by: str = ""


Tell = Callable[..., Awaitable[None]]


async def _tell(gateway: Gateway, caller: Caller, asked: TellRun, *, verb: str, tell: Tell) -> Answered:
    async def act() -> Answered:
        request = CancelRun(reason=asked.reason, by=asked.by)
        await tell(caller.workspace, asked.id, request, by=caller.by, key=caller.key)
        return Answered(await gateway.reads.run(caller.workspace, asked.id))

    return await once(gateway, caller, verb, asked=asked, act=act)


async def cancel(gateway: Gateway, caller: Caller, asked: TellRun) -> Answered:
    """Stop a run; one that is stopped already stays so."""
    return await _tell(gateway, caller, asked, verb="runs.cancel", tell=gateway.operations.cancel_run)


async def terminate(gateway: Gateway, caller: Caller, asked: TellRun) -> Answered:
    """Stop a run at once: it is canceled now, and what is still open is told to stop."""
    return await _tell(gateway, caller, asked, verb="runs.terminate", tell=gateway.operations.terminate_run)


async def pause(gateway: Gateway, caller: Caller, asked: TellRun) -> Answered:
    """Pause a run: what is in flight ends and is kept, nothing new is asked."""
    return await _tell(gateway, caller, asked, verb="runs.pause", tell=gateway.operations.pause_run)


async def resume(gateway: Gateway, caller: Caller, asked: TellRun) -> Answered:
    """Let a paused run go on where it was."""
    return await _tell(gateway, caller, asked, verb="runs.resume", tell=gateway.operations.resume_run)


ROUTES: Final = (
    route("runs.cancel", "POST /v1/runs/{id}/cancel", handle=cancel, answers=views.Run),
    route("runs.terminate", "POST /v1/runs/{id}/terminate", handle=terminate, answers=views.Run),
    route("runs.pause", "POST /v1/runs/{id}/pause", handle=pause, answers=views.Run),
    route("runs.resume", "POST /v1/runs/{id}/resume", handle=resume, answers=views.Run),
)
