"""A batch: the statements of many records, put together so that few go to Postgres and each row keeps its order."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from events.envelope import Record
from events.fact import Fact
from projections.errors import FoldFailed
from projections.projection import Args, Copy, Projection, Sql, Statement

Scope = tuple[str, ...]


class Group:
    """Statements of one SQL on rows of their own: they run as one, in any order."""

    def __init__(self, sql: Sql | Copy) -> None:
        self.sql = sql
        self.args: dict[Any, Args] = {}

    def rows(self) -> list[Args]:
        """Return the arguments, one tuple a statement."""
        return list(self.args.values())

    def columns(self) -> list[Args]:
        """Return the arguments as one array a parameter."""
        return list(zip(*self.args.values(), strict=True))


class Batch:
    """Takes statements in the order of the log. `groups` are to be run one after the other, and after them `settling`."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.settling: dict[Sql, Group] = {}
        self._places: dict[Sql | Copy, list[int]] = {}
        self._row_last: dict[tuple[Scope, Any], int] = {}
        self._scope_last: dict[Scope, int] = {}

    def add(self, statement: Statement) -> None:
        """Put a statement into the first group of its SQL that comes after all that touched its row, else into a new one."""
        sql, name = statement.sql, (statement.scope, statement.row)
        if isinstance(sql, Copy):
            self.groups[self._place(sql, -1)].args[name] = statement.args
        elif sql.settles:
            self.settling.setdefault(sql, Group(sql)).args[name] = statement.args
        else:
            self._put(sql, name, statement.args)

    def _put(self, sql: Sql, name: tuple[Scope, Any], args: Args) -> None:
        floor = self._floor(*name)
        last = self.groups[floor] if floor >= 0 else None
        if sql.merge and last and last.sql is sql and name in last.args:
            last.args[name] = sql.merge(last.args[name], args)
            return
        at = self._place(sql, floor)
        self.groups[at].args[name] = args
        self._row_last[name] = at
        self._scope_last[name[0]] = max(at, self._scope_last.get(name[0], -1))

    def _place(self, sql: Sql | Copy, floor: int) -> int:
        places = self._places.setdefault(sql, [])
        behind = bisect_right(places, floor)
        if behind == len(places):
            places.append(len(self.groups))
            self.groups.append(Group(sql))
        return places[behind]

    def _floor(self, scope: Scope, row: Any) -> int:
        """Return the last group that touches the row, as that row or with its whole scope."""
        if row is None:
            return self._scope_last.get(scope, -1)
        return max(self._row_last.get((scope, None), -1), self._row_last.get((scope, row), -1))


class Fold(msgspec.Struct, frozen=True):
    """All projections as one fold."""

    everything: tuple[Projection, ...]
    by_fact: Mapping[type[Fact], tuple[Projection, ...]]

    def batch(self, records: Iterable[Record]) -> Batch:
        """Return what the records do; raises FoldFailed, since a record that is skipped would be a wrong row for ever."""
        batch = Batch()
        for record in records:
            has_nul = b"\\u0000" in record.body or b"\0" in record.body
            for projection in self.by_fact.get(type(record.fact), self.everything):
                for statement in _project(projection.name, projection.project, record):
                    batch.add(_without_nul(statement) if has_nul else statement)
        return batch


def fold_of(projections: Sequence[Projection]) -> Fold:
    """Put projections together, each asked only for the facts that it handles."""
    facts = {fact for projection in projections for fact in projection.handles or ()}
    return Fold(
        everything=tuple(each for each in projections if each.handles is None),
        by_fact={
            fact: tuple(each for each in projections if each.handles is None or fact in each.handles) for fact in facts
        },
    )


def _without_nul(statement: Statement) -> Statement:
    """Postgres' text has no NUL, and what models and tools say may."""
    args = tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in statement.args)
    return msgspec.structs.replace(statement, args=args)


def _project(name: str, project: Callable[[Record], Sequence[Statement]], record: Record) -> Sequence[Statement]:
    try:
        return project(record)
    except Exception as fault:
        raise FoldFailed(projection=name, seq=record.seq, type_name=record.type, fault=repr(fault)) from fault
