"""Where the oldest unfinished run begins: from there on a queue that was lost has to be read again, and no further back."""

from typing import Final

import msgspec

from events.jetstream.api import CALLBOARD, NO_MESSAGE_FOUND, Answer, ApiError, ask
from events.jetstream.connection import Bus
from events.subjects import parse_fact, request_filter, run_end_filters

RUNS_MAX: Final = 200_000
"""Of more runs than this the log is not asked; the queue then begins with the log."""
OPEN_MAX: Final = 5_000
INFO_SECONDS: Final = 15.0


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] | None = None


class _Info(Answer, frozen=True):
    state: _State = _State()
    total: int = 0


class _Message(msgspec.Struct, frozen=True):
    seq: int = 0


class _Found(Answer, frozen=True):
    message: _Message = _Message()


async def oldest_unfinished(bus: Bus) -> int:
    """Return the sequence of the first fact of the oldest run without an end, the one behind the log's last if there is
    none, 1 if there are too many to look at. Raises LogUnavailable.
    """
    end = (await ask(bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info, seconds=INFO_SECONDS)).state.last_seq
    requests = await _subjects(bus, request_filter())
    if requests is None:
        return 1
    ended: set[tuple[str, str]] = set()
    for filter_ in run_end_filters():
        found = await _subjects(bus, filter_)
        if found is None:
            return 1
        ended |= {_run(subject) for subject in found}
    open_ = [subject for subject in requests if _run(subject) not in ended]
    if len(open_) > OPEN_MAX:
        return 1
    firsts = [await _sequence(bus, subject) for subject in open_]
    return min([end + 1, *(seq for seq in firsts if seq)])


async def _subjects(bus: Bus, filter_: str) -> list[str] | None:
    """Return the subjects of a filter, None if they are too many."""
    found: list[str] = []
    while True:
        request = {"subjects_filter": filter_, "offset": len(found)}
        info = await ask(bus, f"STREAM.INFO.{CALLBOARD}", request, answer=_Info, seconds=INFO_SECONDS)
        page = info.state.subjects or {}
        found += page
        if len(found) > RUNS_MAX or info.total > RUNS_MAX:
            return None
        if not page or len(found) >= info.total:
            return found


async def _sequence(bus: Bus, subject: str) -> int:
    request = {"last_by_subj": subject, "no_hdr": True}
    try:
        return (await ask(bus, f"STREAM.MSG.GET.{CALLBOARD}", request, answer=_Found)).message.seq
    except ApiError as error:
        if error.code != NO_MESSAGE_FOUND:
            raise
        return 0  # purged meanwhile


def _run(subject: str) -> tuple[str, str]:
    address, _, _ = parse_fact(subject)
    return address.workspace, address.run


async def begins_at(bus: Bus, work: str) -> int:
    """Return where the queue with the filter `work` has to begin: 1 if nothing was ever addressed to it. Raises LogUnavailable."""
    return await oldest_unfinished(bus) if await _sequence(bus, work) else 1
