"""Pages of the log itself: complete at once, and there also while Postgres is away."""

import heapq
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from events.codec import TYPES
from events.envelope import Envelope, Record, structured
from events.log import Log
from events.subjects import name_scope, run_scope, workspace_scope
from gateway import views
from gateway.errors import invalid, not_found
from projections.pages import check_limit

NAMES_MAX: Final = 16
SEQUENCE_MAX: Final = 2**63 - 1
ENVELOPE_BYTES: Final = 1024
NAMES: Final = frozenset(type_.rpartition(".")[0] for type_ in TYPES)
KINDS: Final = frozenset(name.partition(".")[0] for name in NAMES)

_seq = attrgetter("seq")


async def page(
    facts: Log, workspace: str, *, run: str | None, names: Sequence[str], after: int, limit: int, bytes_max: int
) -> views.List[Envelope]:
    """Return events of a run or of all in the order of the log; at least one, then no more than `bytes_max` of them.

    Raises Problem, InvalidQuery, LogUnavailable.
    """
    check_limit(limit)
    check_sequence(after)
    scopes = _scopes(workspace, run, check_names(names))
    pages = [await facts.page(scope, after=after, limit=limit + 1) for scope in scopes]
    found = list(heapq.merge(*pages, key=_seq))
    kept = _within(found[:limit], bytes_max)
    more = len(kept) < len(found)
    return views.List([structured(record) for record in kept], more, str(kept[-1].seq) if more else None)


async def event(facts: Log, workspace: str, seq: int) -> Envelope:
    """Return the event at `seq`. Raises Problem (404), LogUnavailable."""
    there = 0 < seq <= SEQUENCE_MAX
    found = await facts.page(workspace_scope(workspace), after=seq - 1, limit=1) if there else []
    if not found or found[0].seq != seq:
        raise not_found("event", str(seq), hint="callboard events")
    return structured(found[0])


def check_sequence(after: int) -> None:
    """Raise Problem if `after` is no sequence of a log."""
    if not 0 <= after <= SEQUENCE_MAX:
        raise invalid("/after", f"{after} must be a sequence, or 0 for the beginning")


def check_names(names: Sequence[str]) -> list[str]:
    """Return names of facts (`tool.completed`, perhaps with its version) or kinds (`tool`) as filters. Raises Problem."""
    if len(names) > NAMES_MAX:
        raise invalid("/type", f"{len(names)} types; at most {NAMES_MAX}")
    found = [name.rpartition(".")[0] if name in TYPES else name.removesuffix(".*") for name in names]
    for name in found:
        if name not in NAMES | KINDS:
            raise invalid("/type", f"{name[:80]!r} is no type of event", hint="GET /v1/schemas lists them")
    return sorted({name for name in found if "." not in name or name.partition(".")[0] not in found})


def _scopes(workspace: str, run: str | None, names: Sequence[str]) -> list[str]:
    if not names:
        return [workspace_scope(workspace) if run is None else run_scope(workspace, run)]
    filters = [name if "." in name else f"{name}.*" for name in names]
    return [name_scope(workspace, run="*" if run is None else run, name=name) for name in filters]


def _within(records: Sequence[Record], bytes_max: int) -> list[Record]:
    kept: list[Record] = []
    size = 0
    for record in records:
        size += len(record.body) + ENVELOPE_BYTES
        if kept and size > bytes_max:
            break
        kept.append(record)
    return kept
