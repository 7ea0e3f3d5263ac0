"""About the gateway itself: is it well, and what do events look like."""

from typing import Any, Final

import msgspec
from litestar.types import ASGIApp

from events.codec import AnyFact
from events.fact import Fact
from gateway import views
from gateway.errors import not_found
from gateway.gateway import Gateway
from gateway.reply import Reply
from gateway.route import Answered, Caller, route
from gateway.system import package_version
from projections.pages import LIMIT_MAX


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is asked."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of the list."""

    after: str | None = None
    limit: int = LIMIT_MAX


class OfType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A type of event: `tool.completed.v1`, or `tool.completed`."""

    type: str


class Health(msgspec.Struct, frozen=True):
    """The process is there."""

    status: str
    version: str


async def healthz(gateway: Gateway, caller: Caller, asked: Nothing) -> ASGIApp:
    """Whether this process is there."""
    del gateway, caller, asked
    return Reply(msgspec.json.encode(Health("ok", package_version())))


async def readyz(gateway: Gateway, caller: Caller, asked: Nothing) -> ASGIApp:
    """Whether it can do its work: 503 without the log; without Postgres commands and streams go on, so that is `degraded`."""
    del caller, asked
    told = await gateway.reads.lag()
    able = told["log"] == "ok" and told["tail"] == "ok"
    status = "ready" if able and told["database"] == "ok" else "degraded" if able else "unavailable"
    body = {"status": status, "version": package_version(), "streams": gateway.streams, **told}
    return Reply(msgspec.json.encode(body), status=200 if able else 503)


async def list_schemas(gateway: Gateway, caller: Caller, asked: Part) -> Answered:
    """The types of events there are."""
    del gateway, caller
    return Answered(views.part(sorted(FACTS), after=asked.after, limit=asked.limit))


async def schema(gateway: Gateway, caller: Caller, asked: OfType) -> Answered:
    """The JSON Schema of a type of event, its `data` in an envelope."""
    del gateway, caller
    newest = max((name for name in FACTS if name.rpartition(".")[0] == asked.type), default=asked.type)
    if newest not in FACTS:
        raise not_found("schema", asked.type, hint="GET /v1/schemas")
    found = msgspec.json.schema(_without_raw(FACTS[newest]))
    return Answered(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"/v1/schemas/{newest}", **found}
    )


def _without_raw(fact: type[Fact]) -> type[msgspec.Struct]:
    """Return a type that has the same schema: msgspec cannot write raw JSON as a field's default."""
    fields: list[tuple[str, Any, Any]] = []
    make: Any = msgspec.field  # its overloads do not know a field that may have no default
    for field in msgspec.structs.fields(fact):
        raw = isinstance(field.default, msgspec.Raw)
        default = make(default=None if raw else field.default, default_factory=field.default_factory)
        fields.append((field.encode_name, Any if raw else field.type, default))
    config = fact.__struct_config__
    made = msgspec.defstruct(fact.__name__, fields, tag_field=config.tag_field, tag=config.tag, kw_only=True)
    made.__doc__ = fact.__doc__
    return made


def _facts() -> dict[str, type[Fact]]:
    union: Any = AnyFact
    return {str(fact.__struct_config__.tag): fact for fact in union.__args__}


FACTS: Final = _facts()
ROUTES: Final = (
    route("schemas.list", "GET /v1/schemas", handle=list_schemas, answers=views.List[str]),
    route("schemas.get", "GET /v1/schemas/{type}", handle=schema),
    route("meta.healthz", "GET /healthz", serve=healthz, answers=Health),
    route("meta.health", "GET /health", serve=healthz, answers=Health),
    route("meta.readyz", "GET /readyz", serve=readyz, also={"503": "The log is away, or this gateway stops"}),
)
