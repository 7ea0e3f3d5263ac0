"""The OpenAPI document, made of the same table of routes that answers: types, pointers and problems are what they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.errors import Fault
from gateway.route import Route

REF: Final = "#/components/schemas/{name}"
TITLE: Final = "Callboard"
STATUSES: Final[Mapping[str, str]] = {
    "400": "The request is malformed",
    "401": "No key, or a wrong one",
    "403": "Not from there",
    "404": "Not there, or not in this workspace",
    "409": "It conflicts with what stands",
    "413": "Too large",
    "415": "The body must be application/json",
    "422": "A field breaks a rule; errors[] has its JSON Pointer",
    "503": "Something is away; try again after Retry-After seconds",
}


class ProblemDocument(msgspec.Struct, kw_only=True, rename={"type_": "type"}):
    """RFC 9457 problem details."""

    type_: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    hint: str
    errors: list[Fault]
    recorded: Any = None


def document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`."""
    types = [each.asks for each in routes] + [each.answers for each in routes if each.answers is not None]
    distinct = list(dict.fromkeys([*types, ProblemDocument]))
    told, schemas = msgspec.json.schema_components(distinct, ref_template=REF)
    known = _Known(dict(zip(distinct, told, strict=True)), schemas)
    paths: dict[str, dict[str, Any]] = {}
    for each in routes:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, known)
    used = _reached(paths, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": "Runs of agents on an event log."},
        "security": [{"key": []}, {}],
        "tags": [{"name": noun} for noun in dict.fromkeys(each.noun for each in routes)],
        "paths": paths,
        "components": {
            "schemas": used,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Known(msgspec.Struct, frozen=True):
    """The types, each with the reference to its schema, and the schemas by name."""

    refs: Mapping[Any, dict[str, Any]]
    schemas: Mapping[str, Any]

    def of(self, type_: Any) -> dict[str, Any]:
        """Return a type's schema itself."""
        return self.schemas[_name(self.refs[type_])]


def _name(ref: Mapping[str, Any]) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _operation(each: Route, known: _Known) -> dict[str, Any]:
    asks = known.of(each.asks)
    told: dict[str, Any] = {
        "operationId": each.name,
        "tags": [each.noun],
        "summary": each.summary,
        "parameters": [*_parameters(each, asks), *(_HEADERS if each.path.startswith("/v1/") else [])],
        "responses": {**_answers(each, known), **_refusals(each, known)},
    }
    if each.method == "POST":
        told["parameters"].append(_IDEMPOTENCY)
        body = known.refs[each.asks] if not each.path_fields else _body(each, asks)
        required = bool(set(asks.get("required", ())) - set(each.path_fields))
        told["requestBody"] = {"required": required, "content": {"application/json": {"schema": body}}}
    return told


def _parameters(each: Route, asks: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, schema in asks.get("properties", {}).items():
        if name in each.path_fields:
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
        elif each.method == "GET":
            required = name in asks.get("required", ())
            found.append({"name": name, "in": "query", "required": required, "schema": schema})
    return found


def _body(each: Route, asks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a body: what is asked less what stands in the path."""
    properties = {name: schema for name, schema in asks["properties"].items() if name not in each.path_fields}
    required = [name for name in asks.get("required", ()) if name not in each.path_fields]
    return {**asks, "title": f"{asks['title']}Body", "properties": properties, "required": required}


def _answers(each: Route, known: _Known) -> dict[str, Any]:
    also = {status: {"description": words} for status, words in each.also.items()}
    return {str(each.status): _answer(each, known), **also}


def _answer(each: Route, known: _Known) -> dict[str, Any]:
    headers = {"Request-Id": {"schema": {"type": "string"}}}
    if each.media_type != "application/json":
        schema: dict[str, Any] = {"type": "string"}
    elif each.answers is None:
        schema = {}
    else:
        schema = known.refs[each.answers]
    content = {each.media_type.partition(";")[0]: {"schema": schema}}
    return {"description": each.summary, "headers": headers, "content": content}


def _refusals(each: Route, known: _Known) -> dict[str, Any]:
    if not each.path.startswith("/v1/"):
        return {}
    body = {"application/problem+json": {"schema": known.refs[ProblemDocument]}}
    skipped: tuple[str, ...] = () if each.method == "POST" else ("409", "413", "415")
    return {
        status: {"description": words, "content": body} for status, words in STATUSES.items() if status not in skipped
    }


def _reached(paths: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas that something points at."""
    found: dict[str, Any] = {}
    waiting = list(_refs(paths))
    while waiting:
        name = waiting.pop().rpartition("/")[2]
        if name not in found:
            found[name] = schemas[name]
            waiting += _refs(schemas[name])
    return dict(sorted(found.items()))


def _refs(value: Any) -> Iterable[str]:
    match value:
        case {"$ref": str() as ref, **rest}:
            yield ref
            yield from _refs(rest)
        case dict():
            for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
                yield from _refs(inner)
        case list():
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                yield from _refs(inner)
        case _:
            return


_HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "Callboard-Workspace",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"},
    }
]
_IDEMPOTENCY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key and request again gets the first answer, with `Idempotent-Replayed: true`",
}
