"""A read model as a value: its tables and a pure fold from records to statements; its queries stand beside it.

A statement never runs alone: those with the same SQL go to Postgres as one, their arguments as columns (`unnest`).
So every SQL here takes arrays, and every column of a row is a function of the log alone: no now(), no serial ids.
"""

from collections.abc import Callable, Sequence
from typing import Any, LiteralString, Protocol, TypeVar

import msgspec

from events.envelope import Record
from events.fact import Fact

T = TypeVar("T")
Args = tuple[Any, ...]


class Sql(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A named SQL text whose parameters are arrays of one length, one element a statement.

    `merge` joins the arguments of two statements on the same row, the older first, where one can do the work of both.
    `settles` marks what only derives columns from others: it runs once a batch and row, after all the rest.
    """

    name: str
    text: LiteralString
    merge: Callable[[Args, Args], Args] | None = None
    settles: bool = False


class Copy(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Rows that are only ever added go by COPY, at less than half the cost of an INSERT."""

    name: str
    table: str
    columns: tuple[str, ...]


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What one record does to one row: `args` are an element of each array that the SQL takes, or the row to be copied.

    `scope` and `row` name what it touches: statements on one row keep the order of the log, others may change places.
    Without a row it touches any row of its scope.
    """

    sql: Sql | Copy
    scope: tuple[str, ...]
    args: Args
    row: Any = None


class Table(msgspec.Struct, frozen=True):
    """A table: its primary key's columns and its DDL, unqualified, since a rebuild makes it in another schema."""

    name: LiteralString
    key: tuple[LiteralString, ...]
    ddl: LiteralString


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """A read model. Another `version` is another fold or table: then it is rebuilt from the log.

    `handles` are the facts it folds; None is every fact.
    """

    name: str
    version: int
    tables: tuple[Table, ...]
    project: Callable[[Record], Sequence[Statement]]
    handles: tuple[type[Fact], ...] | None = None


class Rows(Protocol):
    """What queries need of the store."""

    async def rows(self, row_type: type[T], sql: LiteralString, *args: object) -> list[T]:
        """Return the result's rows as structs; raises DatabaseUnreachable."""
        ...


def raw_json(raw: msgspec.Raw | bytes) -> str:
    """Return JSON bytes as text for a `json` column; no bytes are null."""
    return bytes(raw).decode(errors="replace") or "null"


def as_json(value: object) -> str:
    """Return a value as JSON text for a `jsonb` column."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")
