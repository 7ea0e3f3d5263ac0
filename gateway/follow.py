"""Streams of facts as responses: counted, with their limits, and with a place to go on from."""

from collections.abc import Mapping

from events.run import RunRequested
from events.subjects import EVERY_FACT, Address, run_scope
from gateway.errors import Problem, invalid
from gateway.gateway import Gateway
from gateway.history import check_names, check_sequence
from gateway.reply import StreamReply
from gateway.stream import SCOPES_MAX, Feed, stream
from gateway.tail import Wanted

LAST_EVENT_ID = "last-event-id"


def run_feed(
    gateway: Gateway, address: Address, *, after: int | None = None, names: tuple[str, ...] = (), deltas: bool = False
) -> Feed:
    """Return the stream of one run. Raises Problem."""
    wanted = Wanted(address.workspace, frozenset({address.run}), frozenset(check_names(names)), ends=True)
    seconds = gateway.limits.heartbeat_seconds
    return Feed(wanted=wanted, after=after, run=address, deltas=deltas, heartbeat_seconds=seconds)


def firehose(
    gateway: Gateway, workspace: str, runs: tuple[str, ...], *, after: int | None, names: tuple[str, ...], deltas: bool
) -> Feed:
    """Return the stream of a workspace, or of some of its runs. Raises Problem."""
    wanted = Wanted(workspace, frozenset(runs), frozenset(check_names(names)))
    feed = Feed(wanted=wanted, after=after, deltas=deltas, heartbeat_seconds=gateway.limits.heartbeat_seconds)
    if (count := len(feed.scopes())) > SCOPES_MAX:
        raise invalid("/run", f"{count} runs (times types); one stream follows at most {SCOPES_MAX}")
    return feed


def stream_reply(
    gateway: Gateway,
    feed: Feed,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    counted: bool = False,
) -> StreamReply:
    """Return a stream as a response, `counted` already or not. Raises Problem when there are too many."""
    if not counted:
        gateway.open_stream()
    return StreamReply(
        stream(gateway.tail, feed),
        status=status,
        headers=headers,
        send_seconds=gateway.limits.send_seconds_max,
        closed=gateway.close_stream,
    )


async def place(gateway: Gateway, headers: Mapping[str, str], after: int | None) -> int | None:
    """Return after which sequence a stream goes on: by `Last-Event-ID`, else by `after`. Raises Problem."""
    last = headers.get(LAST_EVENT_ID, "").strip()
    if last and not (last.isascii() and last.isdigit() and len(last) < 19):
        raise invalid("/Last-Event-ID", f"{last[:40]!r} is no sequence; it is the `id` of the last event that came")
    found = int(last) if last else after
    if found is None:
        return None
    check_sequence(found)
    if found > gateway.tail.position and found > (end := await gateway.system.facts.end()):
        raise invalid("/after", f"{found} is beyond the log, which ends at {end}: was it replaced?")
    return found


async def check_kept(gateway: Gateway, address: Address, after: int | None) -> None:
    """Raise Problem (410, with the oldest sequence there is) if events of a run behind `after` were purged."""
    first = next(iter(await gateway.system.facts.page(run_scope(address.workspace, address.run), limit=1)), None)
    if first is None or isinstance(first.fact, RunRequested) or (after is not None and after >= first.seq):
        return
    raise expired(first.seq, hint=f"GET /v1/runs/{address.run}/events?after={first.seq - 1}")


async def check_begun(gateway: Gateway, after: int | None) -> None:
    """Raise Problem (410) if the log begins behind `after`; 0 asks for all there is, wherever that begins."""
    if after:
        first = next(iter(await gateway.system.facts.page(EVERY_FACT, limit=1)), None)
        if first is not None and after < first.seq - 1:
            raise expired(first.seq, hint=f"GET /v1/events?after={first.seq - 1}")


def expired(oldest: int, *, hint: str) -> Problem:
    """Return the problem of a place in front of the oldest event that is kept."""
    told = f"events up to {oldest} were purged; what is kept begins with {oldest}"
    return Problem(410, "sequence_expired", told, hint=hint, recorded={"oldest": oldest})
