"""Tables: as wide as what they hold; on a narrow screen they cut, then leave columns out."""

from gateway.view.paint import Look, Piece, paint
from gateway.view.table import Column, fields, table

PLAIN = Look()
COLUMNS = (
    Column("id"),
    Column("goal", grows=True, least=10),
    Column("cost", leaves=2, right=True),
    Column("age", leaves=1, right=True),
    Column("model", wide=True),
)
ROWS = [
    {"id": "run_1", "goal": "Build a small app for TODO items", "cost": "$0.12", "age": "3m ago", "model": "m"},
    {"id": "run_22", "goal": "Haiku", "cost": "", "age": Piece("now", "dim"), "model": "n"},
]


def drawn(width: int = 0, *, wide: bool = False, rows: object = ROWS, look: Look = PLAIN) -> list[str]:
    return [
        paint(line, look)
        for line in table(COLUMNS, ROWS if rows is ROWS else [], width_max=width, look=look, wide=wide)
    ]


def test_a_table_is_as_wide_as_it_needs() -> None:
    assert drawn() == [
        "ID      GOAL                               COST     AGE",
        "run_1   Build a small app for TODO items  $0.12  3m ago",
        "run_22  Haiku                                       now",
    ]


def test_wide_shows_what_is_left_out_elsewhere() -> None:
    assert drawn(wide=True)[0].endswith("MODEL")


def test_the_growing_column_is_cut_first() -> None:
    assert drawn(40) == [
        "ID      GOAL                COST     AGE",
        "run_1   Build a small ap…  $0.12  3m ago",
        "run_22  Haiku                        now",
    ]


def test_then_columns_leave_the_least_needed_first() -> None:
    assert drawn(28) == [
        "ID      GOAL             AGE",
        "run_1   Build a sma…  3m ago",
        "run_22  Haiku            now",
    ]
    assert drawn(20)[0].split() == ["ID", "GOAL"]


def test_an_empty_table_is_its_head() -> None:
    assert drawn(rows=[]) == ["ID  GOAL  COST  AGE"]


def test_colours_do_not_move_columns() -> None:
    assert drawn(look=Look(colour=True))[2].endswith("\x1b[2mnow\x1b[0m")


def test_fields_without_a_value_are_left_out() -> None:
    assert [paint(line, PLAIN) for line in fields([("id", "run_1"), ("error", ""), ("status", "done")])] == [
        "id      run_1",
        "status  done",
    ]
