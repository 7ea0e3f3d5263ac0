"""How statements are put together: as few as can be, and none before what it must come after."""

from random import Random

import pytest

from events.run import RunStarted, TimerSet
from projections.batch import Batch, fold_of
from projections.errors import FoldFailed
from projections.projection import Copy, Projection, Sql, Statement
from tests.history import History

MAKE = Sql(name="make", text="")
MOVE = Sql(name="move", text="")
END = Sql(name="end", text="")
ADD = Sql(name="add", text="", merge=lambda one, two: (one[0] + two[0],))
SETTLE = Sql(name="settle", text="", settles=True)
NOTE = Copy(name="note", table="notes", columns=("seq",))
SCOPE = ("table", "ws", "run")


def put(sql: Sql | Copy, row: object, *args: object, scope: tuple[str, ...] = SCOPE) -> Statement:
    return Statement(sql, scope, args, row)


def batch_of(*statements: Statement) -> Batch:
    batch = Batch()
    for statement in statements:
        batch.add(statement)
    return batch


def names(batch: Batch) -> list[tuple[str, int]]:
    return [(group.sql.name, len(group.rows())) for group in batch.groups]


def test_statements_of_one_sql_on_different_rows_are_one_group():
    batch = batch_of(put(MAKE, 1, "a", 1), put(END, 1), put(MAKE, 2, "b", 2), put(END, 2))
    assert names(batch) == [("make", 2), ("end", 2)]
    assert batch.groups[0].columns() == [("a", "b"), (1, 2)]


def test_statements_on_one_row_keep_their_order():
    batch = batch_of(put(MAKE, 1), put(MOVE, 1), put(MOVE, 1), put(END, 1), put(MAKE, 2), put(MOVE, 2), put(END, 2))
    assert names(batch) == [("make", 2), ("move", 2), ("move", 1), ("end", 2)]


def test_a_statement_on_all_rows_parts_what_was_before_from_what_comes_after():
    batch = batch_of(put(MAKE, 1), put(MOVE, None), put(MAKE, 2), put(MOVE, None), put(END, 1))
    assert names(batch) == [("make", 1), ("move", 1), ("make", 1), ("move", 1), ("end", 1)]


def test_another_scope_is_not_parted():
    batch = batch_of(put(MAKE, 1), put(MOVE, None), put(MAKE, 2, scope=("table", "ws", "other")))
    assert names(batch) == [("make", 2), ("move", 1)]


def test_statements_that_can_be_merged_are_one_per_row():
    batch = batch_of(put(ADD, 1, 5), put(ADD, 2, 1), put(ADD, 1, 7))
    assert batch.groups[0].rows() == [(12,), (1,)]


def test_what_is_derived_comes_last_and_once_a_row():
    batch = batch_of(put(SETTLE, None, "x"), put(MAKE, 1), put(SETTLE, None, "x"))
    assert names(batch) == [("make", 1)]
    assert [group.rows() for group in batch.settling.values()] == [[("x",)]]


def test_copied_rows_are_one_group_whatever_is_between():
    batch = batch_of(put(NOTE, 1, 1), put(MOVE, None), put(NOTE, 2, 2), put(MOVE, None), put(NOTE, 3, 3))
    assert names(batch) == [("note", 3), ("move", 1), ("move", 1)]


@pytest.mark.parametrize("seed", range(20))
def test_no_statement_comes_before_another_on_its_row(seed: int):
    chance = Random(seed)
    told = [
        (chance.choice((MAKE, MOVE, END)), chance.choice((1, 2, 3, None)), ("t", "ws", chance.choice("ab")), number)
        for number in range(60)
    ]
    batch = batch_of(*(put(sql, row, number, scope=scope) for sql, row, scope, number in told))
    order = [args[0] for group in batch.groups for args in group.rows()]
    place = {number: place for place, number in enumerate(order)}
    assert sorted(order) == list(range(60))
    group_of = {args[0]: at for at, group in enumerate(batch.groups) for args in group.rows()}
    for _, row, scope, number in told:
        for _, other, other_scope, later in told[number + 1 :]:
            if scope == other_scope and (row == other or row is None or other is None):
                assert place[number] < place[later]
                assert group_of[number] < group_of[later]


def test_a_projection_sees_only_the_facts_it_handles():
    seen: list[int] = []
    history = History()
    history.run(RunStarted())
    history.run(TimerSet(timer="tmr_1", at=1, purpose="watch"))

    def project(record: object):
        seen.append(getattr(record, "seq", 0))
        return ()

    fold_of([Projection(name="some", version=1, tables=(), project=project, handles=(TimerSet,))]).batch(
        history.records
    )
    assert seen == [2]
    fold_of([Projection(name="all", version=1, tables=(), project=project)]).batch(history.records)
    assert seen == [2, 1, 2]


def test_a_fold_that_raises_names_the_projection_and_the_fact():
    history = History()
    history.run(RunStarted())

    def project(record: object):
        raise KeyError(record)

    with pytest.raises(FoldFailed, match=r"projection 'runs' cannot fold fact 1 \(run\.started\.v1\)"):
        fold_of([Projection(name="runs", version=1, tables=(), project=project)]).batch(history.records)
