"""What was asked, from the bytes it came in: query, path and JSON body into the struct that a route asks for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec

from gateway.errors import Problem, invalid
from gateway.problems import of_shape

FIELDS_MAX: Final = 200

AskedT = TypeVar("AskedT", bound=msgspec.Struct)


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, none for no body. Raises Problem: 400 for what is not JSON, 422 for no object."""
    if not body.strip():
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Problem(400, "malformed_json", f"the body is not JSON: {fault}") from None
    except RecursionError:
        raise Problem(400, "malformed_json", "the body is not JSON that is of use: it is nested too deeply") from None
    if not isinstance(parsed, dict):
        raise invalid("", "the body must be a JSON object")
    return cast("dict[str, Any]", parsed)


def query(text: bytes, many: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a query string; those in `many` may come more than once. Raises Problem."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Problem(400, "malformed_query", "the query string is not UTF-8 in percent encoding") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in many:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise invalid(f"/{name[:80]}", "is given more than once")
        else:
            fields[name] = value
    return fields


def asked(
    asks: type[AskedT], fields: Mapping[str, Any], *, path: Mapping[str, str] | None = None, strict: bool = True
) -> AskedT:
    """Return `fields` and the `path`'s as the struct they should be; without `strict`, text may stand for numbers.

    Raises Problem (422) with the pointer of what is wrong.
    """
    path = path or {}
    if both := sorted(set(fields) & set(path)):
        raise invalid(f"/{both[0]}", "stands in the path already")
    for name, value in fields.items():
        texts = cast("list[Any]", value) if isinstance(value, list) else [value]
        if "\0" in name or any(isinstance(text, str) and "\0" in text for text in texts):
            raise invalid(f"/{name[:80]}", "must not contain NUL")
    try:
        return msgspec.convert({**fields, **path}, asks, strict=strict)
    except msgspec.ValidationError as fault:
        known = [name for name in asks.__struct_fields__ if name not in path]
        raise of_shape(fault, hint=f"fields here: {', '.join(known) or 'none'}") from None
    except RecursionError:
        raise Problem(400, "malformed_json", "the body is nested too deeply") from None


def many_of(asks: type[msgspec.Struct]) -> frozenset[str]:
    """Return which fields of a struct may come more than once in a query."""
    fields: Sequence[Any] = msgspec.structs.fields(asks)
    return frozenset(field.name for field in fields if isinstance(msgspec.inspect.type_info(field.type), _MANY))


_MANY: Final = (msgspec.inspect.VarTupleType, msgspec.inspect.ListType, msgspec.inspect.SetType)
