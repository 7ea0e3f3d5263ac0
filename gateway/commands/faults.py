"""Which error a command may end with, and how it is told: one clean line and a way out. Everything else is a bug.

Errors are known by name, so that telling one imports nothing.
"""

import errno
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.commands.exits import FAILED, INTERNAL, UNREACHABLE, USAGE, Quit, of_problem
from gateway.errors import Problem

UNWRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR})
DOCTOR: Final = "callboard doctor"
CODES: Final[Mapping[str, tuple[int, str]]] = {
    "gateway.client.Silent": (UNREACHABLE, DOCTOR),
    "gateway.client.Unreachable": (UNREACHABLE, "start one with `callboard up`, or set CALLBOARD_API_URL"),
    "gateway.serve.PortInUse": (UNREACHABLE, ""),
    "gateway.settings.SettingsError": (USAGE, ""),
    "gateway.blueprint.BlueprintError": (USAGE, ""),
    "toolbox.named.ToolNotLoaded": (USAGE, ""),
    "actors.cassette.CassetteError": (USAGE, ""),
    "actors.model.ModelError": (FAILED, "--model scripted needs no key"),
    "events.jetstream.dial.NatsUnreachable": (UNREACHABLE, DOCTOR),
    "events.jetstream.streams.ServerTooOld": (USAGE, ""),
    "events.jetstream.streams.StreamDiffers": (USAGE, ""),
    "events.log.LogUnavailable": (UNREACHABLE, DOCTOR),
    "events.ids.InvalidToken": (USAGE, ""),
    "deploy.errors.PortInUse": (UNREACHABLE, ""),
    "deploy.errors.DidNotStart": (UNREACHABLE, DOCTOR),
    "deploy.errors.KeepsDying": (INTERNAL, DOCTOR),
    "deploy.errors.StackError": (USAGE, ""),
    "projections.errors.DatabaseUnreachable": (UNREACHABLE, DOCTOR),
    "projections.errors.DatabaseUnfit": (USAGE, ""),
    "projections.errors.ProjectionError": (INTERNAL, ""),
}
"""By the first of its classes that is here: its exit code, and a hint."""


class Told(msgspec.Struct, frozen=True):
    """An error as it is told."""

    code: int
    message: str
    hint: str = ""


def told(fault: BaseException) -> Told | None:
    """Return how an error is told; None for a bug. Of a group its first error that is known counts."""
    match fault:
        case Quit(code=code, message=message, hint=hint):
            return Told(code, message, hint)
        case Problem():
            return Told(of_problem(fault), _problem(fault), fault.hint)
        case BaseExceptionGroup(exceptions=exceptions):
            found = [each for each in map(told, exceptions) if each is not None]
            return found[0] if found and len(found) == len(exceptions) else None
        case OSError(errno=number, filename=str(path), strerror=str(why)) if number in UNWRITABLE:
            return Told(USAGE, f"cannot write to {path}: {why}", "choose another folder, as with --home")
        case _:
            return _by_name(fault)


def _by_name(fault: BaseException) -> Told | None:
    for cls in type(fault).__mro__:
        if (known := CODES.get(f"{cls.__module__}.{cls.__qualname__}")) is not None:
            return Told(known[0], str(fault) or cls.__name__, known[1])
    return None


def _problem(problem: Problem) -> str:
    more = [error.detail for error in problem.errors if error.detail not in problem.detail]
    return "\n".join([problem.detail, *more[:5]])
