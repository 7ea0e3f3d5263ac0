"""What each request means, without a socket in sight: method, path, body in; status and payload out.

The contract is docs/architecture.md. Every refusal is `{"error": ..., "field": ...}` with a status that tells the kind.
"""

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from app.server.store import Store

TITLE_MAX = 200
ID_MAX = 2**63 - 1
COLLECTION = "/api/todos"


@dataclass(frozen=True)
class Answer:
    """A status, a JSON payload (None: no body), and headers that are not about the body."""

    status: int
    payload: object = None
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that cannot be done; `status` says why, `about` names the field, if one is to blame."""

    def __init__(
        self, status: int, message: str, about: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error": message, "field": about}, headers or {})


class Api:
    """The TODO API over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def respond(self, method: str, target: str, body: bytes = b"") -> Answer:
        """Answer one request; `target` is the path with its query."""
        try:
            return self._route(method, target, body)
        except Refusal as refusal:
            return refusal.answer

    def _route(self, method: str, target: str, body: bytes) -> Answer:
        url = urlsplit(target)
        if url.path == COLLECTION:
            return self._collection(method, url.query, body)
        head, _, tail = url.path.rpartition("/")
        if head == COLLECTION:
            return self._item(method, _id(tail), body)
        raise Refusal(404, f"there is nothing at {url.path}")

    def _collection(self, method: str, query: str, body: bytes) -> Answer:
        match method:
            case "GET":
                return Answer(200, {"todos": self._store.find(_done_filter(query))})
            case "POST":
                todo = self._store.add(_title(_fields(body, {"title"})))
                return Answer(201, todo, {"Location": f"{COLLECTION}/{todo['id']}"})
        raise Refusal(405, f"{method} is not allowed here", headers={"Allow": "GET, POST"})

    def _item(self, method: str, todo_id: int, body: bytes) -> Answer:
        match method:
            case "GET":
                return Answer(200, _found(self._store.get(todo_id), todo_id))
            case "PATCH":
                return Answer(200, _found(self._store.update(todo_id, **_changes(body)), todo_id))
            case "DELETE":
                _found(self._store.delete(todo_id) or None, todo_id)
                return Answer(204)
        raise Refusal(405, f"{method} is not allowed here", headers={"Allow": "GET, PATCH, DELETE"})


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= ID_MAX):
        raise Refusal(404, f"there is no TODO {text[:40]!r}")
    return int(text)


def _found(result: object, todo_id: int) -> object:
    if result is None:
        raise Refusal(404, f"there is no TODO {todo_id}")
    return result


def _fields(body: bytes, known: set[str]) -> dict:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body must be JSON") from None
    if not isinstance(fields, dict):
        raise Refusal(400, "the body must be a JSON object")
    for name in fields:
        if name not in known:
            raise Refusal(400, f"unknown field {name[:40]!r}; known: {', '.join(sorted(known))}", about=name[:40])
    return fields


def _title(fields: dict) -> str:
    title = fields.get("title")
    if not isinstance(title, str) or not 1 <= len(title.strip()) <= TITLE_MAX:
        raise Refusal(400, f"title must be 1 to {TITLE_MAX} characters", about="title")
    if "\0" in title or any("\ud800" <= letter <= "\udfff" for letter in title):
        raise Refusal(400, "title must be text", about="title")
    return title.strip()


def _changes(body: bytes) -> dict:
    fields = _fields(body, {"title", "done"})
    if not fields:
        raise Refusal(400, "nothing to change; give title, done, or both")
    if "title" in fields:
        fields["title"] = _title(fields)
    if not isinstance(fields.get("done", False), bool):
        raise Refusal(400, "done must be true or false", about="done")
    return fields


def _done_filter(query: str) -> bool | None:
    values = parse_qs(query, keep_blank_values=True).get("done")
    if values is None:
        return None
    if values not in (["true"], ["false"]):
        raise Refusal(400, "done must be true or false", about="done")
    return values == ["true"]
