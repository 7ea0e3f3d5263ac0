"""Approvals: what waits for a human, and the decision."""

from typing import Any, Final

import msgspec

from events.tool import Decision
from gateway import views
from gateway.errors import invalid
from gateway.gateway import Gateway
from gateway.operations import DecideApproval, Decided
from gateway.route import Answered, Caller, once, route
from projections.approvals import STATUS
from projections.pages import LIMIT_DEFAULT

STATUSES: Final = ("pending", *STATUS.values(), "expired", "canceled")


class OfApproval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An approval's id."""

    id: str


class ListApprovals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which approvals: of a status, of a run."""

    status: str | None = None
    run: str | None = None
    after: str | None = None
    limit: int = LIMIT_DEFAULT


class DecideOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The approval and the decision; an edit carries `arguments`, `digest` binds it to the call that was shown."""

    id: str
    decision: Decision
    comment: str = ""
    arguments: dict[str, Any] | None = None
    digest: str = ""
    by: str = ""


async def list_approvals(gateway: Gateway, caller: Caller, asked: ListApprovals) -> Answered:
    """Approvals, newest first."""
    if asked.status is not None and asked.status not in STATUSES:
        raise invalid("/status", f"{asked.status[:80]!r} must be one of {', '.join(STATUSES)}")
    found = await gateway.reads.approvals(
        caller.workspace, status=asked.status, run=asked.run, after=asked.after, limit=asked.limit
    )
    return Answered(found)


async def get(gateway: Gateway, caller: Caller, asked: OfApproval) -> Answered:
    """One approval."""
    return Answered(await gateway.reads.approval(caller.workspace, asked.id))


async def decide(gateway: Gateway, caller: Caller, asked: DecideOn) -> Answered:
    """Decide on an approval; the first decision is the decision, another one is refused with the first."""

    async def act() -> Answered:
        request = DecideApproval(
            decision=asked.decision,
            comment=asked.comment,
            arguments=asked.arguments,
            digest=asked.digest,
            by=asked.by,
        )
        return Answered(await gateway.operations.decide(caller.workspace, asked.id, request, by=caller.by))

    return await once(gateway, caller, "approvals.decide", asked=asked, act=act)


ROUTES: Final = (
    route("approvals.list", "GET /v1/approvals", handle=list_approvals, answers=views.List[views.Approval]),
    route("approvals.get", "GET /v1/approvals/{id}", handle=get, answers=views.Approval),
    route("approvals.decide", "POST /v1/approvals/{id}/decision", handle=decide, answers=Decided),
)
