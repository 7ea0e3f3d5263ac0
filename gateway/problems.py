"""Every error as a problem: the one table that both doors look into."""

import re
from typing import Final

import msgspec
import structlog

from events.blobs import BlobMissing
from events.ids import InvalidToken
from events.log import LogError
from gateway.blueprint import BlueprintError
from gateway.errors import Problem, invalid, log_away, unavailable
from projections.errors import DatabaseUnfit, DatabaseUnreachable, InvalidQuery

_AT: Final = re.compile(r" - at `(?P<path>[^`]*)`$")
_FIELD: Final = re.compile(r"(?:missing required|contains unknown) field `(?P<field>[^`]*)`")
_PART: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")

log = structlog.get_logger()


def problem_of(fault: Exception) -> Problem:
    """Return the problem of an error; one that nobody foresaw is a 500 and is logged with its traceback."""
    match fault:
        case Problem():
            return fault
        case LogError():
            return log_away(fault)
        case DatabaseUnreachable() | DatabaseUnfit():
            return unavailable("database", str(fault))
        case InvalidQuery(field=field, rule=rule):
            return invalid(f"/{field}", rule)
        case InvalidToken(field=field):
            return invalid(f"/{field}", str(fault))
        case BlobMissing():
            return Problem(404, "content_not_found", str(fault))
        case BlueprintError():
            return Problem(404, "blueprint_not_found", str(fault), hint="callboard blueprints list")
        case msgspec.ValidationError():
            return of_shape(fault)
        case _:
            log.error("request_failed", exc_info=fault)
            return Problem(
                500, "internal", "something went wrong here; it is in the gateway's log under this request id"
            )


def of_shape(fault: msgspec.ValidationError, *, hint: str = "") -> Problem:
    """Return the problem of a body that has not the shape it should have, its field as a JSON Pointer."""
    told = str(fault)
    at = _AT.search(told)
    words = told[: at.start()] if at else told
    pointer = pointer_of(at["path"]) if at else ""
    if field := _FIELD.search(words):
        pointer = f"{pointer}/{_escaped(field['field'])}"
    return invalid(pointer, words, hint=hint)


def pointer_of(path: str) -> str:
    """Turn msgspec's path (`$.plan.steps[0].id`) into a JSON Pointer; a key it does not tell stays `*`."""
    parts = [match[1] or match[2] for match in _PART.finditer(path)]
    return "".join(f"/{'*' if part == '...' else _escaped(part)}" for part in parts)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
