"""An operation as a value: asked over HTTP by method and path, over NATS by noun and verb, answered by one function.

Both doors and the OpenAPI document are made of the same table of these, so they cannot drift apart.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast, get_type_hints

import msgspec
from litestar.types import ASGIApp

from gateway.errors import Problem
from gateway.gateway import Gateway
from gateway.idempotency import claim_of, remember

HTTP_BYTES_MAX: Final = 8 * 1024 * 1024
NATS_BYTES_MAX: Final = 800 * 1024
REPLAYED: Final[Mapping[str, str]] = {"Idempotent-Replayed": "true"}

AskedT = TypeVar("AskedT", bound=msgspec.Struct)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: for which workspace, under which name and idempotency key; `bytes_max` is what an answer may weigh."""

    workspace: str
    by: str
    key: str = ""
    bytes_max: int = HTTP_BYTES_MAX
    headers: Mapping[str, str] = {}


class Answered(msgspec.Struct, frozen=True):
    """An answer: a value to be written as JSON (or the JSON itself), a status as in HTTP, and headers."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}

    @property
    def json(self) -> bytes:
        return bytes(self.body) if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


Handle = Callable[[Gateway, Caller, Any], Awaitable[Answered]]
Serve = Callable[[Gateway, Caller, Any], Awaitable[ASGIApp]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """An operation. `asks` has the fields of path, query and body in one.

    `handle` answers at both doors; `serve` answers over HTTP instead, or only there. `plain` names the field that a body of
    plain text over NATS is, `also` further statuses that are no refusals.
    """

    name: str
    method: str
    path: str
    asks: type[msgspec.Struct]
    answers: Any
    summary: str
    status: int = 200
    handle: Handle | None = None
    serve: Serve | None = None
    media_type: str = "application/json"
    plain: str = ""
    also: Mapping[str, str] = {}

    @property
    def noun(self) -> str:
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.name.partition(".")[2]

    @property
    def path_fields(self) -> tuple[str, ...]:
        """The fields that stand in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


def route(
    name: str,
    place: str,
    *,
    handle: Callable[[Gateway, Caller, AskedT], Awaitable[Answered]] | None = None,
    serve: Callable[[Gateway, Caller, AskedT], Awaitable[ASGIApp]] | None = None,
    answers: Any = None,
    **more: Any,
) -> Route:
    """Return the operation `name` (noun.verb) at `place` (GET /v1/path); what it asks and says is told by its function."""
    method, _, path = place.partition(" ")
    told: Any = handle or serve
    asks = get_type_hints(told)["asked"]
    summary = (told.__doc__ or "").partition("\n")[0].rstrip(".")
    return Route(
        name=name,
        method=method,
        path=path,
        asks=asks,
        answers=answers,
        summary=summary,
        handle=cast("Handle | None", handle),
        serve=cast("Serve | None", serve),
        **more,
    )


async def once(
    gateway: Gateway, caller: Caller, operation: str, *, asked: msgspec.Struct, act: Callable[[], Awaitable[Answered]]
) -> Answered:
    """Act, or replay what was answered to the same request under the same idempotency key, a refusal too. Raises Problem."""
    if not caller.key:
        return await act()
    digest = hashlib.sha256(operation.encode() + b"\0" + msgspec.json.encode(asked)).hexdigest()
    async with claim_of(gateway.system, caller.workspace, key=caller.key, digest=digest, makes=operation) as claim:
        if claim.answer is not None:
            return Answered(claim.answer, claim.status, REPLAYED)
        try:
            answered = await act()
        except Problem as problem:
            if not problem.retryable:
                body = msgspec.json.encode(problem.body())
                await remember(gateway.system, claim, status=problem.status, body=body)
            raise
        await remember(gateway.system, claim, status=answered.status, body=answered.json)
        return answered
