"""Runs: begin, look, follow."""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from litestar.types import ASGIApp

from events.subjects import Address
from gateway import shown, views
from gateway.errors import invalid
from gateway.follow import run_feed, stream_reply
from gateway.gateway import Gateway
from gateway.operations import CreateRun, RunAccepted
from gateway.reply import Reply
from gateway.route import REPLAYED, Answered, Caller, route
from gateway.tail import TERMINAL, Wanted
from projections.pages import LIMIT_DEFAULT, LIMIT_MAX
from projections.usage import UsageGroup

_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")


class OfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run's id."""

    id: str


class PartsOfRun(OfRun, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run, and which part of a list of what it has."""

    after: str | None = None
    limit: int = LIMIT_MAX


class ListRuns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which runs: of a status, of a blueprint, with all of some labels (`name:value`), with `q` in the goal."""

    status: str | None = None
    label: tuple[str, ...] = ()
    blueprint: str | None = None
    q: str | None = None
    after: str | None = None
    limit: int = LIMIT_DEFAULT


class UsageOfRun(OfRun, frozen=True, forbid_unknown_fields=True):
    """A run, and what to group its usage by."""

    group_by: UsageGroup = "model"


async def create(gateway: Gateway, caller: Caller, asked: CreateRun) -> Answered:
    """Accept a goal; over HTTP `Prefer: wait=30` holds the answer and `Accept: text/event-stream` streams at once."""
    accepted, replayed = await gateway.operations.create_run(caller.workspace, asked, by=caller.by, key=caller.key)
    headers = {"Location": f"/v1/runs/{accepted.id}"}
    return Answered(accepted, 202, {**headers, **REPLAYED} if replayed else headers)


async def create_and_follow(gateway: Gateway, caller: Caller, asked: CreateRun) -> ASGIApp:
    """Answer a created run at once, after a while (`Prefer: wait=30`), or with its events (`Accept: text/event-stream`)."""
    if "text/event-stream" in caller.headers.get("accept", ""):
        return await _create_and_stream(gateway, caller, asked)
    seconds = _preferred(caller.headers, gateway.limits.wait_seconds_max)
    answered = await create(gateway, caller, asked)
    if seconds is None:
        return Reply(answered.json, status=202, headers=answered.headers)
    address = Address(caller.workspace, answered.body.id)
    ended = await _ended(gateway, address, seconds)
    view = await gateway.reads.run(caller.workspace, address.run)
    headers = {**answered.headers, "Preference-Applied": f"wait={seconds:g}"}
    return Reply(msgspec.json.encode(view), status=200 if ended else 202, headers=headers)


async def list_runs(gateway: Gateway, caller: Caller, asked: ListRuns) -> Answered:
    """Runs, newest first."""
    try:
        labels = shown.label_pairs(asked.label)
    except ValueError as fault:
        raise invalid("/label", str(fault)) from None
    found = await gateway.reads.runs(
        caller.workspace,
        status=asked.status,
        labels=labels,
        blueprint=asked.blueprint,
        q=asked.q,
        after=asked.after,
        limit=asked.limit,
    )
    return Answered(found)


async def get(gateway: Gateway, caller: Caller, asked: OfRun) -> Answered:
    """One run."""
    return Answered(await gateway.reads.run(caller.workspace, asked.id))


async def status(gateway: Gateway, caller: Caller, asked: OfRun) -> Answered:
    """How a run stands, in short."""
    return Answered(shown.status(await gateway.reads.run(caller.workspace, asked.id)))


async def result(gateway: Gateway, caller: Caller, asked: OfRun) -> Answered:
    """What a run came to; status 202 and how it stands while it has not ended."""
    found = await gateway.reads.result(caller.workspace, asked.id)
    return Answered(found, 200 if isinstance(found, views.Result) else 202)


async def steps(gateway: Gateway, caller: Caller, asked: PartsOfRun) -> Answered:
    """The steps of a run, in the order of its plan."""
    found = await gateway.reads.steps(caller.workspace, asked.id)
    return Answered(views.part(found, after=asked.after, limit=asked.limit))


async def graph(gateway: Gateway, caller: Caller, asked: OfRun) -> Answered:
    """The plan of a run as a graph."""
    return Answered(await gateway.reads.graph(caller.workspace, asked.id))


async def usage(gateway: Gateway, caller: Caller, asked: UsageOfRun) -> Answered:
    """Tokens and cost of a run."""
    return Answered(await gateway.reads.usage(caller.workspace, asked.id, asked.group_by))


async def _create_and_stream(gateway: Gateway, caller: Caller, asked: CreateRun) -> ASGIApp:
    gateway.open_stream()  # first: a run that is begun must not be answered with a refusal
    try:
        answered = await create(gateway, caller, asked)
    except BaseException:
        gateway.close_stream()
        raise
    feed = run_feed(gateway, Address(caller.workspace, answered.body.id))
    return stream_reply(gateway, feed, status=202, headers=answered.headers, counted=True)


def _preferred(headers: Mapping[str, str], most: float) -> float | None:
    found = _WAIT.search(headers.get("prefer", ""))
    return min(float(found[1]), most) if found else None


async def _ended(gateway: Gateway, address: Address, seconds: float) -> bool:
    """Wait for a run's end; return whether it came within `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    with gateway.tail.join(Wanted(address.workspace, frozenset({address.run}), frozenset({"run"}))) as listener:
        last = await gateway.system.facts.peek(address.fence)
        if last is not None and isinstance(last.fact, TERMINAL):
            return True
        while not gateway.tail.over and (left := deadline - asyncio.get_running_loop().time()) > 0:
            if any(frame.ends for frame in await listener.next(left)):
                return True
    return False


ROUTES: Final = (
    route(
        "runs.create",
        "POST /v1/runs",
        handle=create,
        serve=create_and_follow,
        answers=RunAccepted,
        status=202,
        plain="goal",
        also={"200": "It ended while it was waited for"},
    ),
    route("runs.list", "GET /v1/runs", handle=list_runs, answers=views.List[views.Run]),
    route("runs.get", "GET /v1/runs/{id}", handle=get, answers=views.Run),
    route("runs.status", "GET /v1/runs/{id}/status", handle=status, answers=views.Status),
    route(
        "runs.result",
        "GET /v1/runs/{id}/result",
        handle=result,
        answers=views.Result,
        also={"202": "It has not ended: how it stands"},
    ),
    route("runs.steps", "GET /v1/runs/{id}/steps", handle=steps, answers=views.List[views.Step]),
    route("runs.graph", "GET /v1/runs/{id}/graph", handle=graph, answers=views.Graph),
    route("runs.usage", "GET /v1/runs/{id}/usage", handle=usage, answers=views.Used),
)
