"""The API's documentation as one page, written from the OpenAPI document: no script, nothing from elsewhere."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

CSP: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } summary span { opacity: .75; }
code { font: 13px ui-monospace, monospace; }
b.method { display: inline-block; width: 3.5rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; }
td { border-top: 1px solid var(--line); }
"""


def page(document: Mapping[str, Any]) -> bytes:
    """Return the page."""
    info, schemas = document["info"], document["components"]["schemas"]
    groups = "".join(_group(tag["name"], document["paths"]) for tag in document["tags"])
    types = "".join(_schema(name, schema) for name, schema in schemas.items())
    title = escape(f"{info['title']} {info['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{escape(info['description'])} "
        f"The same as a document for tools: <a href=/openapi.json>openapi.json</a>. "
        f"Types of events: <a href=/v1/schemas>/v1/schemas</a>.</p>{groups}<h2>Types</h2>{types}</html>"
    ).encode()


def _group(tag: str, paths: Mapping[str, Any]) -> str:
    operations = [
        _operation(method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]
    return f"<h2 id={escape(tag)}>{escape(tag)}</h2>{''.join(operations)}"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    fields = "".join(_row(each["name"], each["in"], each["schema"]) for each in operation["parameters"])
    body = operation.get("requestBody")
    if body is not None:
        schema = next(iter(body["content"].values()))["schema"]
        inline = schema.get("properties", {})
        fields += "".join(_row(name, "body", each) for name, each in inline.items())
        fields += "" if inline else f"<tr><td>{_type(schema)}<td>body<td>"
    answers = "".join(
        f"<tr><td><code>{status}</code><td>{escape(answer['description'])}<td>{_content(answer)}"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<details id={escape(operation['operationId'])}><summary><b class=method>{method.upper()}</b> "
        f"<code>{escape(path)}</code> <span>{escape(operation['summary'])}</span></summary>"
        f"<table><tr><th>field<th>in<th>type{fields}</table><table><tr><th>answer<th><th>{answers}</table></details>"
    )


def _content(answer: Mapping[str, Any]) -> str:
    return "".join(f"{escape(media)} {_type(each['schema'])}" for media, each in answer.get("content", {}).items())


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(_row(field, "", each) for field, each in schema.get("properties", {}).items())
    told = escape(schema.get("description", ""))
    return (
        f"<details id=type-{escape(name)}><summary><code>{escape(name)}</code> <span>{told}</span></summary>"
        f"<table>{rows}</table></details>"
    )


def _row(name: str, place: str, schema: Mapping[str, Any]) -> str:
    default = f" = {escape(str(schema['default']))}" if "default" in schema else ""
    return f"<tr><td><code>{escape(name)}</code>{default}<td>{place}<td>{_type(schema)}"


def _type(schema: Mapping[str, Any]) -> str:
    if ref := schema.get("$ref"):
        name = escape(ref.rpartition("/")[2])
        return f"<a href=#type-{name}>{name}</a>"
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "items" in schema and isinstance(schema["items"], dict):
        return f"[{_type(schema['items'])}]"  # pyright: ignore[reportUnknownArgumentType]
    return escape(str(schema.get("type", "any")))
