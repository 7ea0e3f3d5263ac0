"""Dead letters as rows of a table, one alone as lines, and what became of many."""

from collections.abc import Mapping
from typing import Final

from gateway.letter_views import DeadLetter, Outcome
from gateway.view.entities import Showing
from gateway.view.lines import clean_line
from gateway.view.paint import Line, Piece, Tone, line
from gateway.view.table import Cell, Column, fields
from gateway.view.text import clean, cut, plural

LETTERS: Final = (
    Column("id"),
    Column("status", leaves=6),
    Column("source", leaves=3),
    Column("code"),
    Column("reason", grows=True, least=16),
    Column("step", leaves=2),
    Column("age", leaves=1, right=True),
    Column("run", wide=True),
    Column("role", wide=True),
    Column("attempts", wide=True, right=True),
    Column("address", wide=True),
    Column("made", wide=True),
)
OUTCOMES: Final = (
    Column("id"),
    Column("outcome"),
    Column("what", grows=True, least=20),
    Column("step", leaves=2),
    Column("run", wide=True),
)
STATUS: Final[Mapping[str, tuple[str, Tone]]] = {
    "open": ("failed", "bad"),
    "replayed": ("done", "good"),
    "purged": ("note", "dim"),
}
WAYS: Final[Mapping[str, str]] = {
    "sent": "the command is sent again",
    "reopened": "its step is opened again",
    "new_run": "a new run goes on from what is done",
}
LINES_MAX: Final = 60
REASON_COLUMNS: Final = 80


def letter_row(letter: DeadLetter, showing: Showing) -> Mapping[str, Cell]:
    """Return a dead letter as a row of LETTERS."""
    return {
        "id": letter.id,
        "status": _status(letter, showing),
        "source": letter.source,
        "code": clean(letter.code),
        "reason": cut(clean(letter.reason), REASON_COLUMNS),
        "step": clean(letter.step),
        "age": showing.time(letter.recorded_at),
        "run": letter.run,
        "role": letter.role,
        "attempts": str(letter.attempts),
        "address": clean(letter.address),
        "made": ", ".join(letter.made),
    }


def letter_lines(letter: DeadLetter, showing: Showing) -> list[Line]:
    """Return a dead letter alone: the cause, each attempt's error, and the message to the letter."""
    again = f", {plural(letter.times, 'time')}" if letter.times > 1 else ""
    closed = f"{showing.time(letter.closed_at)} by {clean(letter.by or '')}" if letter.closed_at else ""
    way = f"{WAYS.get(letter.way or '', '')}: {', '.join(letter.made)}" if letter.way else ""
    shown = fields(
        [
            ("id", letter.id),
            ("status", _status(letter, showing)),
            ("source", letter.source),
            ("cause", line(Piece(clean(f"{letter.code}: {letter.reason}"), "bad"))),
            ("attempts", str(letter.attempts)),
            ("run", letter.run),
            ("step", f"{clean(letter.step)} ({letter.role})" if letter.step else ""),
            ("actor", clean(letter.address)),
            ("recorded", f"{showing.time(letter.recorded_at)}{again}"),
            ("closed", closed),
            ("replay", way),
            ("died of", f"#{letter.died}" if letter.died else ""),
        ],
        columns=showing.width,
    )
    named = letter.source == "step"  # a step's attempts have their own numbers
    errors = [line("  " if named else f"  {number}. ", clean(error)) for number, error in enumerate(letter.errors, 1)]
    return [*shown, *([line(), line(Piece("errors", "bold")), *errors] if errors else []), *_message(letter)]


def _message(letter: DeadLetter) -> list[Line]:
    message = letter.message
    if message is None:
        return []
    body = "in base64: " + message.body if message.coded else message.body
    rest = f"  the whole is blob {message.sha}" if message.sha else f"  {message.size} bytes, the rest was not kept"
    cut = [line(Piece(rest, "dim"))] if message.sha or message.cut else []
    texts = [line(f"  {clean_line(each)}") for each in body.splitlines()[:LINES_MAX]]
    return [line(), line(Piece(clean(message.subject), "bold")), *texts, *cut]


def outcome_row(outcome: Outcome, showing: Showing) -> Mapping[str, Cell]:
    """Return what became of a letter, or would become of it, as a row of OUTCOMES."""
    bad = outcome.outcome == "refused"
    said = f"{outcome.code}: {outcome.detail}" if bad else WAYS.get(outcome.way or "", "")
    made = f" ({', '.join(outcome.made)})" if outcome.made else ""
    if outcome.before:
        said = f"{showing.time(outcome.at)} by {outcome.by or 'nobody named'}: {said}"
    word = "was replayed before" if outcome.before else outcome.outcome.replace("_", " ")
    return {
        "id": outcome.id,
        "outcome": Piece(word, "bad" if bad else "warn" if outcome.before else "good"),
        "what": clean(said + made),
        "step": clean(outcome.step),
        "run": outcome.run,
    }


def _status(letter: DeadLetter, showing: Showing) -> Line:
    sign, tone = STATUS[letter.status]
    return line(Piece(showing.look.sign(sign), tone), " ", Piece(letter.status, tone))
