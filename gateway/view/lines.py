"""Events as lines: when, where, what; and which of them a calm watcher wants to see."""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from events import codec
from events.fact import Fact, name_of
from gateway.view.board import Board, Event
from gateway.view.paint import Line, Look, Piece, cut_line, line
from gateway.view.text import ago, clean, pad
from gateway.view.words import words

TimeStyle = Literal["relative", "iso", "unix"]

NOTABLE: Final = frozenset({"run", "plan", "step", "gate", "approval", "question"})
LOUD: Final = frozenset(
    {
        "model.failed",
        "agent.failed",
        "agent.checking",
        "tool.failed",
        "tool.outcome_unknown",
        "budget.exhausted",
        "budget.overdrawn",
        "budget.raised",
    }
)
KEY_COLUMNS: Final = 16
RUN_COLUMNS: Final = 30


def notable(fact: Fact) -> bool:
    """Tell whether a fact belongs into the short story of a run."""
    name = name_of(fact)
    return name in LOUD or name.partition(".")[0] in NOTABLE


def event_line(
    event: Event, board: Board, *, times: TimeStyle = "relative", columns: int = 0, look: Look, of: str = ""
) -> Line:
    """Return an event as a line; `board` has taken it in, so it knows the names of places.

    `columns` 0: as long as it is. `of` is the run it belongs to, where lines of several runs stand together.
    """
    said = words(event.fact)
    made = line(
        Piece(_when(event, board, times), "dim"),
        "  ",
        *((Piece(pad(of, RUN_COLUMNS), "dim"), "  ") if of else ()),
        Piece(pad(look.cut(_where(event, board), KEY_COLUMNS), KEY_COLUMNS), "accent" if event.step != "-" else "bold"),
        "  ",
        Piece(look.sign(said.sign), said.tone),
        " ",
        said.text,
    )
    return cut_line(made, columns, look) if columns else made


def detail_lines(event: Event) -> list[Line]:
    """Return what an event says in full, as JSON below its line: number, type, and each field on a line."""
    found: dict[str, object] = msgspec.json.decode(codec.encode(event.fact))
    head = f"#{event.seq} {found.pop('type', '')}"
    body = msgspec.json.format(msgspec.json.encode(found), indent=2).decode(errors="replace")
    return [
        line("    ", Piece(text, "dim")) for text in (head, *(clean_line(each) for each in body.splitlines()[1:-1]))
    ]


def clean_line(text: str) -> str:
    """Return a line with its indentation, made safe."""
    bare = text.lstrip(" ")
    return " " * (len(text) - len(bare)) + clean(bare)


def written(time_ms: int | None, now_ms: int, times: TimeStyle) -> str:
    """Write a time as people asked for it; empty for none."""
    if time_ms is None:
        return ""
    match times:
        case "relative":
            return ago(time_ms, now_ms)
        case "iso":
            return iso(time_ms)
        case "unix":
            return f"{time_ms / 1000:.3f}"


def iso(time_ms: int) -> str:
    """Write a time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _when(event: Event, board: Board, times: TimeStyle) -> str:
    if times != "relative":
        return written(event.time_ms, 0, times)
    seconds = max(event.time_ms - board.first_ms, 0) / 1000
    if seconds < 100:
        return f"{seconds:>6.2f}s"
    return f"{int(seconds) // 60:>3}m {int(seconds) % 60:02d}s"


def _where(event: Event, board: Board) -> str:
    if key := getattr(event.fact, "key", ""):
        return key
    return "run" if event.step == "-" else board.key_of(event.step) or event.step
