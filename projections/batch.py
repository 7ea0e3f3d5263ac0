"""A batch: the statements of many records, put together so that few go to Postgres and each row keeps its order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from events.envelope import Record
from events.fact import Fact
from projections.errors import FoldFailed
from projections.projection import Args, Projection, Sql, Statement

Scope = tuple[str, ...]


class Group:
    """Statements of one SQL on rows of their own: they run as one, in any order."""

    def __init__(self, sql: Sql) -> None:
        self.sql = sql
        self.args: dict[Any, Args] = {}

    def columns(self) -> list[tuple[Any, ...]]:
        """Return the arguments as one array a parameter."""
        return [_storable(column) for column in zip(*self.args.values(), strict=True)]


def _storable(column: Args) -> Args:
    """Postgres' text has no NUL, and what models and tools say may."""
    if any("\0" in value for value in column if type(value) is str):
        return tuple(value.replace("\0", "\ufffd") if type(value) is str else value for value in column)
    return column


class Batch:
    """Takes statements in the order of the log; `groups` are to be run one after the other."""

    def __init__(self) -> None:
        self._groups: list[Group] = []
        self._settling: dict[Sql, Group] = {}
        self._open: dict[Sql, int] = {}
        self._row_last: dict[tuple[Scope, Any], int] = {}
        self._scope_last: dict[Scope, int] = {}

    def add(self, statement: Statement) -> None:
        """Put a statement into the last group of its SQL if that comes after all that touched its row, else into a new one."""
        sql, name = statement.sql, (statement.scope, statement.row)
        if sql.settles:
            self._settling.setdefault(sql, Group(sql)).args[name] = statement.args
            return
        floor = self._floor(statement)
        at = self._open.get(sql, -1)
        if at >= 0 and at == floor and sql.merge and (before := self._groups[at].args.get(name)):
            self._groups[at].args[name] = sql.merge(before, statement.args)
            return
        if at <= floor:
            at = self._open[sql] = len(self._groups)
            self._groups.append(Group(sql))
        self._groups[at].args[name] = statement.args
        self._row_last[name] = at
        self._scope_last[statement.scope] = max(at, self._scope_last.get(statement.scope, -1))

    def _floor(self, statement: Statement) -> int:
        if statement.row is None:
            return self._scope_last.get(statement.scope, -1)
        whole = self._row_last.get((statement.scope, None), -1)
        return max(whole, self._row_last.get((statement.scope, statement.row), -1))

    @property
    def groups(self) -> list[Group]:
        return [*self._groups, *self._settling.values()]


class Fold(msgspec.Struct, frozen=True):
    """All projections as one fold."""

    everything: tuple[Projection, ...]
    by_fact: Mapping[type[Fact], tuple[Projection, ...]]

    def batch(self, records: Iterable[Record]) -> Batch:
        """Return what the records do; raises FoldFailed, since a record that is skipped would be a wrong row for ever."""
        batch = Batch()
        for record in records:
            for projection in self.by_fact.get(type(record.fact), self.everything):
                for statement in _project(projection.name, projection.project, record):
                    batch.add(statement)
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


def _project(name: str, project: Callable[[Record], Sequence[Statement]], record: Record) -> Sequence[Statement]:
    try:
        return project(record)
    except Exception as fault:
        raise FoldFailed(projection=name, seq=record.seq, type_name=record.type, fault=repr(fault)) from fault
