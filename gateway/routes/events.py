"""Events: pages of the log, and streams of it."""

from typing import Final

import msgspec
from litestar.types import ASGIApp

from events.envelope import Envelope
from events.ids import check_token
from gateway import history, views
from gateway.errors import invalid
from gateway.follow import check_begun, check_kept, firehose, place, run_feed, stream_reply
from gateway.gateway import Gateway
from gateway.operations import check_workspace
from gateway.reply import EVENT_STREAM, Reply
from gateway.route import Answered, Caller, route
from gateway.tail import TERMINAL
from projections.pages import LIMIT_DEFAULT


class ListEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events: after a sequence, of some types (`tool.completed`, or `tool` for all of its kind), of a run."""

    run: str | None = None
    type: tuple[str, ...] = ()
    after: int = 0
    limit: int = LIMIT_DEFAULT


class EventsOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run, and which of its events: after a sequence, of some types."""

    id: str
    type: tuple[str, ...] = ()
    after: int = 0
    limit: int = LIMIT_DEFAULT


class OfEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event's sequence."""

    seq: int


class Firehose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to stream: of some runs or all, of some types or all, after a sequence, with token deltas (1) or without (0)."""

    run: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    after: int | None = None
    deltas: int = 0


class StreamOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The run to stream: its events of some types or all, after a sequence, with token deltas (1) or without (0)."""

    id: str
    type: tuple[str, ...] = ()
    after: int | None = None
    deltas: int = 0


async def list_events(gateway: Gateway, caller: Caller, asked: ListEvents) -> Answered:
    """Events of the workspace, in the order of the log."""
    return await _page(gateway, caller, run=asked.run, asked=asked)


async def of_run(gateway: Gateway, caller: Caller, asked: EventsOfRun) -> Answered:
    """Events of a run, in the order of the log."""
    return await _page(gateway, caller, run=asked.id, asked=asked)


async def get(gateway: Gateway, caller: Caller, asked: OfEvent) -> Answered:
    """The event at a sequence."""
    check_workspace(caller.workspace)
    return Answered(await history.event(gateway.system.facts, caller.workspace, asked.seq))


async def stream_run(gateway: Gateway, caller: Caller, asked: StreamOfRun) -> ASGIApp:
    """The events of a run as they happen, as server-sent events; ends with the run, and is 204 behind its end."""
    address = await gateway.reads.exists(caller.workspace, asked.id)
    after = await place(gateway, caller.headers, asked.after)
    if after is not None:
        last = await gateway.system.facts.peek(address.fence)
        if last is not None and isinstance(last.fact, TERMINAL) and after >= last.seq:
            return Reply(status=204)
    await check_kept(gateway, address, after)
    feed = run_feed(gateway, address, after=after, names=asked.type, deltas=await _deltas(gateway, asked.deltas))
    return stream_reply(gateway, feed)


async def stream_all(gateway: Gateway, caller: Caller, asked: Firehose) -> ASGIApp:
    """The events of a workspace, or of some of its runs, as they happen, as server-sent events."""
    check_workspace(caller.workspace)
    for run in asked.run:
        check_token(run, "run")
    after = await place(gateway, caller.headers, asked.after)
    await check_begun(gateway, after)
    deltas = await _deltas(gateway, asked.deltas)
    feed = firehose(gateway, caller.workspace, asked.run, after=after, names=asked.type, deltas=deltas)
    for run in asked.run:
        await gateway.reads.exists(caller.workspace, run)
    return stream_reply(gateway, feed)


async def _page(gateway: Gateway, caller: Caller, *, run: str | None, asked: ListEvents | EventsOfRun) -> Answered:
    check_workspace(caller.workspace)
    if run is not None:
        await gateway.reads.exists(caller.workspace, run)
    found = await history.page(
        gateway.system.facts,
        caller.workspace,
        run=run,
        names=asked.type,
        after=asked.after,
        limit=asked.limit,
        bytes_max=caller.bytes_max,
    )
    return Answered(found)


async def _deltas(gateway: Gateway, wanted: int) -> bool:
    if wanted not in (0, 1):
        raise invalid("/deltas", f"{wanted} must be 0 or 1")
    if wanted:
        await gateway.tail.hear_deltas()
    return bool(wanted)


ROUTES: Final = (
    route("runs.events", "GET /v1/runs/{id}/events", handle=of_run, answers=views.List[Envelope]),
    route(
        "runs.stream",
        "GET /v1/runs/{id}/events/stream",
        serve=stream_run,
        media_type=EVENT_STREAM,
        also={"204": "There is nothing behind the end of the run"},
    ),
    route("events.list", "GET /v1/events", handle=list_events, answers=views.List[Envelope]),
    route("events.stream", "GET /v1/events/stream", serve=stream_all, media_type=EVENT_STREAM),
    route("events.get", "GET /v1/events/{seq}", handle=get, answers=Envelope),
)
