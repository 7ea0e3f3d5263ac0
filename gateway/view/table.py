"""Tables for the terminal: as wide as what they hold, and narrower where the screen is: by cutting, then by leaving out."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.view.paint import Line, Look, Piece, Tone, line, line_width
from gateway.view.text import pad, width, wrapped

GAP: Final = 2
FIELD_COLUMNS: Final = 100


class Column(msgspec.Struct, frozen=True):
    """A column: `grows` takes what room is left and is cut first; `wide` is shown with `-o wide` only;
    of the others the one with the highest `leaves` goes first where the screen is too narrow (0: never)."""

    name: str
    grows: bool = False
    wide: bool = False
    leaves: int = 0
    right: bool = False
    least: int = 12


Cell = str | Piece | Line
"""A plain text, one with a tone, or several."""


def table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], *, width_max: int, look: Look, wide: bool = False
) -> list[Line]:
    """Return a table's lines, its head first; `width_max` 0 is as wide as needed."""
    shown = [column for column in columns if wide or not column.wide]
    cells = {column.name: [_line(row.get(column.name, "")) for row in rows] for column in shown}
    widths = {
        column.name: max([width(column.name), *(line_width(cell) for cell in cells[column.name])]) for column in shown
    }
    if width_max:
        shown, widths = _fit(shown, widths, width_max)
    head = [(column, line(Piece(column.name.upper(), "dim"))) for column in shown]
    body = [[(column, cells[column.name][number]) for column in shown] for number in range(len(rows))]
    return [_row(row, widths, look) for row in (head, *body)]


def _fit(shown: list[Column], widths: dict[str, int], width_max: int) -> tuple[list[Column], dict[str, int]]:
    while True:
        narrowed = _narrowed(shown, widths, width_max)
        leaving = max(shown, key=lambda each: each.leaves)
        if _total(shown, narrowed) <= width_max or not leaving.leaves:
            return shown, narrowed
        shown = [each for each in shown if each is not leaving]


def _narrowed(shown: list[Column], widths: dict[str, int], width_max: int) -> dict[str, int]:
    for growing in (each for each in shown if each.grows):
        over = max(_total(shown, widths) - width_max, 0)
        least = min(growing.least, widths[growing.name])
        widths = widths | {growing.name: max(widths[growing.name] - over, least)}
    return widths


def _total(shown: Sequence[Column], widths: Mapping[str, int]) -> int:
    return sum(widths[each.name] for each in shown) + GAP * (len(shown) - 1)


def _row(row: Sequence[tuple[Column, Line]], widths: Mapping[str, int], look: Look) -> Line:
    made: list[Piece] = []
    for position, (column, cell) in enumerate(row):
        room = widths[column.name]
        cut = _cut(cell, room, look)
        blank = Piece(" " * (room - line_width(cut)))
        made += [*([Piece(" " * GAP)] if position else []), *((blank, *cut) if column.right else (*cut, blank))]
    return tuple(made)


def _cut(cell: Line, room: int, look: Look) -> Line:
    if line_width(cell) <= room:
        return cell
    text = "".join(piece.text for piece in cell)
    tone: Tone = cell[0].tone
    return (Piece(look.cut(text, room), tone),)


def _line(cell: Cell) -> Line:
    if isinstance(cell, str):
        return line(cell)
    return (cell,) if isinstance(cell, Piece) else cell


def fields(pairs: Sequence[tuple[str, Cell]], *, columns: int = FIELD_COLUMNS) -> list[Line]:
    """Return names and values below each other; pairs without a value are left out, long texts go on below."""
    kept = [(name, value) for name, value in pairs if value and value != ()]
    names = max((width(name) for name, _ in kept), default=0)
    lines: list[Line] = []
    for name, value in kept:
        parts = (
            [line(each) for each in wrapped(value, columns - names - GAP)] if isinstance(value, str) else [_line(value)]
        )
        heads = (name, *[""] * (len(parts) - 1))
        lines += [
            line(Piece(pad(head, names), "dim"), " " * GAP, *part) for head, part in zip(heads, parts, strict=True)
        ]
    return lines
