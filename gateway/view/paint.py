"""Lines of toned pieces, and their way onto a terminal: with colours or without, in Unicode or ASCII.

A tone never says alone what a word or a sign does not say too.
"""

from typing import Final, Literal, NamedTuple

import msgspec

from gateway.view.text import cut, width

Tone = Literal["", "dim", "bold", "good", "bad", "warn", "accent"]

_CODES: Final[dict[Tone, str]] = {"dim": "2", "bold": "1", "good": "32", "bad": "31", "warn": "33", "accent": "36"}
_SIGNS: Final[dict[str, tuple[str, str]]] = {
    "done": ("✓", "+"),
    "failed": ("✗", "x"),
    "working": ("●", "*"),
    "pending": ("◌", "."),
    "paused": ("⏸", "="),
    "asks": ("?", "?"),
    "again": ("↻", "~"),
    "skipped": ("-", "-"),
    "note": ("·", "-"),
    "to": ("→", "->"),
    "more": ("…", "..."),
    "branch": ("├", "|"),
    "last": ("└", "`"),
    "bar": ("│", "|"),
    "rule": ("─", "-"),
}


class Piece(NamedTuple):
    """Some text in one tone."""

    text: str
    tone: Tone = ""


Line = tuple[Piece, ...]


class Look(msgspec.Struct, frozen=True):
    """What the terminal can show."""

    colour: bool = False
    unicode: bool = True

    def sign(self, name: str) -> str:
        """Return a sign by name."""
        return _SIGNS[name][0 if self.unicode else 1]

    def cut(self, text: str, columns: int) -> str:
        """Cut `text` to columns with this look's mark."""
        return cut(text, columns, mark=self.sign("more"))


PLAIN: Final = Look()


def line(*pieces: str | Piece) -> Line:
    """Make a line of plain strings and toned pieces."""
    return tuple(piece if isinstance(piece, Piece) else Piece(piece) for piece in pieces if piece)


def line_width(of: Line) -> int:
    """Return how many columns a line takes."""
    return sum(width(piece.text) for piece in of)


def cut_line(of: Line, columns: int, look: Look) -> Line:
    """Return a line in at most `columns`."""
    if line_width(of) <= columns:
        return of
    kept: list[Piece] = []
    for piece in of:
        if width(piece.text) >= columns:
            return (*kept, Piece(look.cut(piece.text + " " * 2, columns), piece.tone))
        kept.append(piece)
        columns -= width(piece.text)
    return tuple(kept)


def paint(of: Line, look: Look) -> str:
    """Write a line for a terminal of this look."""
    text = "".join(_paint(piece, look) for piece in of).rstrip()
    return text if look.unicode else text.encode("ascii", "replace").decode()


def _paint(piece: Piece, look: Look) -> str:
    if not look.colour or not piece.tone or not piece.text.strip():
        return piece.text
    return f"\x1b[{_CODES[piece.tone]}m{piece.text}\x1b[0m"
