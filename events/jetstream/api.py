"""JetStream's JSON API: one request, one typed answer, the server's refusals as errors."""

from typing import Any, Final, TypeVar

import msgspec

from events.jetstream.connection import Bus
from events.jetstream.replies import REQUEST_SECONDS
from events.log import LogFull, LogUnavailable

CALLBOARD: Final = "CALLBOARD"
CALLBOARD_INBOX: Final = "CALLBOARD_INBOX"

WRONG_LAST_SEQUENCE: Final = 10071
WRONG_LAST_SEQUENCE_IN_FLIGHT: Final = 10164
STREAM_NOT_FOUND: Final = 10059
STREAM_NAME_IN_USE: Final = 10058
NO_MESSAGE_FOUND: Final = 10037
CONSUMER_EXISTS: Final = 10148

NO_ROOM: Final = frozenset({10002, 10023, 10028, 10047, 10077})
"""Limits of the account, the server's memory or disk, or the stream itself (bytes, messages) are reached."""

SECOND: Final = 1_000_000_000
"""JetStream counts durations in nanoseconds."""


class Refusal(msgspec.Struct, frozen=True):
    """What the server says instead of an answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What every answer of the API may hold."""

    error: Refusal | None = None


class Published(Answer, frozen=True):
    """The acknowledgement of a publish to a stream."""

    stream: str = ""
    seq: int = 0


class ApiError(LogUnavailable):
    """JetStream refused a request; `code` is its own number, as in `nats errors`."""

    def __init__(self, verb: str, refusal: Refusal) -> None:
        self.code = refusal.err_code
        self.description = refusal.description
        super().__init__(f"JetStream refused {verb[:200]}: {refusal.description} ({refusal.err_code or refusal.code})")


def error_of(verb: str, refusal: Refusal) -> LogUnavailable:
    """Return the error of a refused request."""
    if refusal.err_code in NO_ROOM:
        return LogFull(f"{refusal.description} ({refusal.err_code})")
    return ApiError(verb, refusal)


AnswerT = TypeVar("AnswerT", bound=Answer)


async def ask(
    bus: Bus, verb: str, request: dict[str, Any] | None, *, answer: type[AnswerT], seconds: float = REQUEST_SECONDS
) -> AnswerT:
    """Send `request` to `$JS.API.<verb>` and return its answer. Raises ApiError, LogUnavailable."""
    body = b"" if request is None else msgspec.json.encode(request)
    reply = await bus.request(f"$JS.API.{verb}", body, seconds=seconds)
    told = msgspec.json.decode(reply.body, type=answer)
    if told.error is not None:
        raise ApiError(verb, told.error)
    return told
