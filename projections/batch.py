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


class Touched:
    """Which group was the last to touch the rows of a scope: each row, all of them at once, and any of them."""

    def __init__(self) -> None:
        self.rows: dict[Any, int] = {}
        self.whole = -1
        self.any = -1

    def floor(self, row: Any) -> int:
        """Return the last group that a statement on `row` must come after; None is any row."""
        return self.any if row is None else max(self.whole, self.rows.get(row, -1))

    def by(self, group: int, row: Any) -> None:
        if row is None:
            self.whole = group
        self.rows[row] = group
        self.any = max(self.any, group)


class Batch:
    """Takes statements in the order of the log. `groups` are to be run one after the other, and after them `settling`."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.settling: dict[Sql, Group] = {}
        self._places: dict[Sql | Copy, list[int]] = {}
        self._touched: dict[Scope, Touched] = {}

    def add(self, statement: Statement) -> None:
        """Put a statement into the first group of its SQL that comes after all that touched its row, else into a new one."""
        sql = statement.sql
        if isinstance(sql, Copy):
            self.groups[self._place(sql, -1)].args[statement.row] = statement.args
        elif sql.settles:
            self.settling.setdefault(sql, Group(sql)).args[statement.scope, statement.row] = statement.args
        else:
            self._put(sql, statement)

    def _put(self, sql: Sql, statement: Statement) -> None:
        name = (statement.scope, statement.row)
        touched = self._touched.get(statement.scope)
        if touched is None:
            touched = self._touched[statement.scope] = Touched()
        floor = touched.floor(statement.row)
        if sql.merge and floor >= 0 and self.groups[floor].sql is sql and (before := self.groups[floor].args.get(name)):
            self.groups[floor].args[name] = sql.merge(before, statement.args)
            return
        at = self._place(sql, floor)
        self.groups[at].args[name] = statement.args
        touched.by(at, statement.row)

    def _place(self, sql: Sql | Copy, floor: int) -> int:
        places = self._places.setdefault(sql, [])
        behind = bisect_right(places, floor)
        if behind == len(places):
            places.append(len(self.groups))
            self.groups.append(Group(sql))
        return places[behind]


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
