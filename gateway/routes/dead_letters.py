"""Dead letters: what could not be worked on, why, and another chance for it."""

from typing import Final

import msgspec

from events.envelope import from_rfc3339
from gateway import views
from gateway.dead_letters import DeadLetters
from gateway.errors import invalid
from gateway.gateway import Gateway
from gateway.letter_views import DeadLetter, Outcome, Outcomes
from gateway.route import Answered, Caller, once, route
from projections.dead_letters import LetterFilter
from projections.pages import LIMIT_DEFAULT


class OfLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dead letter's id."""

    id: str


class Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which letters: of a source, a cause, a run, a role; recorded at `since` or later, before `until` (RFC 3339)."""

    source: str | None = None
    code: str | None = None
    run: str | None = None
    role: str | None = None
    since: str | None = None
    until: str | None = None


class ListLetters(Which, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which letters, and which part of their list."""

    status: str | None = None
    after: str | None = None
    limit: int = LIMIT_DEFAULT


class ReplayLetter(OfLetter, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The letter, who replays it, and whether only to say what would happen."""

    by: str = ""
    dry_run: bool = False


class PurgeLetter(OfLetter, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The letter, and who purges it."""

    by: str = ""


class Many(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The open letters that `filter` takes; with `dry_run` nothing is changed."""

    filter: Which = Which()
    dry_run: bool = False
    by: str = ""


async def list_letters(gateway: Gateway, caller: Caller, asked: ListLetters) -> Answered:
    """Dead letters, newest first."""
    wanted = msgspec.structs.replace(_filter(asked, ""), status=asked.status)
    return Answered(await gateway.reads.dead_letters(caller.workspace, wanted, after=asked.after, limit=asked.limit))


async def get(gateway: Gateway, caller: Caller, asked: OfLetter) -> Answered:
    """One dead letter, with its message."""
    return Answered(await _letters(gateway).get(caller.workspace, asked.id))


async def replay(gateway: Gateway, caller: Caller, asked: ReplayLetter) -> Answered:
    """Give a dead letter another chance: its command sent again, its step opened again, or a run that goes on from there."""
    by = asked.by or caller.by
    return Answered(await _letters(gateway).replay(caller.workspace, asked.id, by=by, dry_run=asked.dry_run))


async def replay_many(gateway: Gateway, caller: Caller, asked: Many) -> Answered:
    """Replay all open dead letters of a filter, or say what would happen to each."""

    async def act() -> Answered:
        wanted, by = _filter(asked.filter, "/filter"), asked.by or caller.by
        return Answered(await _letters(gateway).replay_many(caller.workspace, wanted, by=by, dry_run=asked.dry_run))

    return await once(gateway, caller, "dead-letters.replay-many", asked=asked, act=act)


async def purge(gateway: Gateway, caller: Caller, asked: PurgeLetter) -> Answered:
    """Close a dead letter without doing anything; it stays in the log."""
    return Answered(await _letters(gateway).purge(caller.workspace, asked.id, by=asked.by or caller.by))


async def purge_many(gateway: Gateway, caller: Caller, asked: Many) -> Answered:
    """Close all open dead letters of a filter without doing anything."""

    async def act() -> Answered:
        wanted, by = _filter(asked.filter, "/filter"), asked.by or caller.by
        return Answered(await _letters(gateway).purge_many(caller.workspace, wanted, by=by, dry_run=asked.dry_run))

    return await once(gateway, caller, "dead-letters.purge-many", asked=asked, act=act)


def _letters(gateway: Gateway) -> DeadLetters:
    return DeadLetters(gateway.operations)


def _filter(which: Which, at: str) -> LetterFilter:
    return LetterFilter(
        source=which.source,
        code=which.code,
        run=which.run,
        role=which.role,
        since=_time(which.since, f"{at}/since"),
        until=_time(which.until, f"{at}/until"),
    )


def _time(text: str | None, pointer: str) -> int | None:
    try:
        return None if text is None else from_rfc3339(text)
    except (ValueError, OverflowError):
        raise invalid(pointer, f"{text!r:.80} must be a time like 2026-11-21T12:00:00Z") from None


ROUTES: Final = (
    route("dead-letters.list", "GET /v1/dead-letters", handle=list_letters, answers=views.List[DeadLetter]),
    route("dead-letters.replay-many", "POST /v1/dead-letters/replay", handle=replay_many, answers=Outcomes),
    route("dead-letters.purge-many", "POST /v1/dead-letters/purge", handle=purge_many, answers=Outcomes),
    route("dead-letters.get", "GET /v1/dead-letters/{id}", handle=get, answers=DeadLetter),
    route("dead-letters.replay", "POST /v1/dead-letters/{id}/replay", handle=replay, answers=Outcome),
    route("dead-letters.purge", "DELETE /v1/dead-letters/{id}", handle=purge, answers=Outcome),
)
