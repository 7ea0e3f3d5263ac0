"""Where a command prints: data on stdout in the form asked for, everything else on stderr."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import msgspec

from gateway.commands.exits import Quit
from gateway.settings import Terminal
from gateway.view.lines import TimeStyle
from gateway.view.paint import Line, Look, Piece, line, paint
from gateway.view.table import Cell, Column, table

if TYPE_CHECKING:
    from gateway.view.entities import Showing

Output = Literal["table", "wide", "json", "jsonl", "yaml", "id"]
Color = Literal["auto", "always", "never"]

ERASE: Final = "\x1b["


class PipeClosed(Exception):
    """Whoever read our output has gone."""


class Globals(msgspec.Struct, frozen=True):
    """The options that stand anywhere on the line."""

    color: Color = "auto"
    times: TimeStyle = "relative"
    no_input: bool = False
    flags: Mapping[str, Any] = {}


class Screen:
    """The terminal of one command, or what stands in for it."""

    def __init__(
        self, options: Globals, *, terminal: Terminal, output: Output = "table", quiet: bool = False, now_ms: int = 0
    ) -> None:
        self.output: Output = output
        self.quiet = quiet
        self.times: TimeStyle = options.times
        self.now_ms = now_ms
        self.out = look_of(sys.stdout, options.color, terminal)
        self.err = look_of(sys.stderr, options.color, terminal)
        self.columns = columns_of(sys.stdout)
        self.is_live = is_terminal(sys.stderr) and not terminal.dumb and not quiet
        self.is_interactive = (
            not options.no_input and is_terminal(sys.stdin) and is_terminal(sys.stderr) and not terminal.ci
        )
        self.no_input = options.no_input

    @property
    def is_table(self) -> bool:
        """Whether a person reads stdout."""
        return self.output in ("table", "wide")

    def showing(self) -> "Showing":
        """Return how things are shown on stdout."""
        from gateway.view.entities import Showing

        return Showing(self.out, self.now_ms, self.times, self.columns)

    # What goes to stdout is data.

    def write(self, text: str) -> None:
        """Write a line of data. Raises PipeClosed."""
        _write(sys.stdout, text)

    def lines(self, lines: Iterable[Line]) -> None:
        """Write lines of data."""
        for each in lines:
            self.write(paint(each, self.out))

    def one(self, raw: bytes, *, id_: str, lines: Callable[[], Iterable[Line]]) -> None:
        """Show one thing: `raw` is its JSON, `lines` makes what a person reads. Quiet, it is its id."""
        match "id" if self.quiet else self.output:
            case "json":
                self.write(msgspec.json.format(raw, indent=2).decode())
            case "jsonl":
                self.write(msgspec.json.format(raw, indent=-1).decode())
            case "yaml":
                self.write(_yaml(msgspec.json.decode(raw)).rstrip())
            case "id":
                self.write(id_)
            case _:
                self.lines(lines())

    def many(
        self,
        raws: Sequence[bytes],
        *,
        ids: Sequence[str],
        columns: Sequence[Column],
        rows: Callable[[], Sequence[Mapping[str, Cell]]],
        nothing: str,
        more: bool = False,
        next_cursor: str | int | None = None,
    ) -> None:
        """Show a list. `nothing` is said on stderr if it is empty."""
        match self.output:
            case "json":
                listed = {"data": [msgspec.Raw(raw) for raw in raws], "has_more": more, "next_cursor": next_cursor}
                self.write(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
            case "jsonl":
                for raw in raws:
                    self.write(msgspec.json.format(raw, indent=-1).decode())
            case "yaml":
                self.write(_yaml([msgspec.json.decode(raw) for raw in raws]).rstrip())
            case "id":
                for id_ in ids:
                    self.write(id_)
            case _ if not raws:
                self.say(line(Piece(nothing, "dim")))
            case _:
                wide = self.output == "wide"
                width = 0 if wide else self.columns
                self.lines(table(columns, rows(), width_max=width, look=self.out, wide=wide))
        if more and self.is_table:
            self.say(line(Piece("there are more: --limit shows them", "dim")))

    # Everything else goes to stderr.

    def say(self, *lines: Line | str) -> None:
        """Say something that is no data."""
        for each in lines:
            _write(sys.stderr, paint((Piece(each),) if isinstance(each, str) else each, self.err))

    def fail(self, message: str, hint: str = "") -> None:
        """Say an error: one line, and the way out."""
        show_error(message, hint, self.err)

    def confirm(self, question: str, *, yes: bool, flag: str = "--yes") -> None:
        """Ask before something is done; raises Quit if the answer is no, or nobody can be asked."""
        if yes:
            return
        if not self.is_interactive:
            raise Quit(2, f"{question} Nobody can be asked here.", hint=f"add {flag}")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Quit(2, "nothing was done")

    def confirm_count(self, question: str, count: int, *, yes: bool, flag: str = "--yes") -> None:
        """Have the number of what will be gone typed; raises Quit if it is not, or nobody can be asked."""
        if yes:
            return
        if not self.is_interactive:
            raise Quit(2, f"{question} Nobody can be asked here.", hint=f"add {flag}")
        sys.stderr.write(f"{question} Type {count} to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != str(count):
            raise Quit(2, "nothing was done")


def show_error(message: str, hint: str, look: Look) -> None:
    """Write `error: …` and `hint: …` to stderr."""
    head, *rest = message.splitlines() or [""]
    _write(sys.stderr, paint(line(Piece("error:", "bad"), " ", head), look))
    for more in rest:
        _write(sys.stderr, paint(line("       ", more), look))
    if hint:
        _write(sys.stderr, paint(line(Piece(" hint:", "accent"), " ", hint), look))


def look_of(stream: TextIO, color: Color, terminal: Terminal) -> Look:
    """Return what a stream can show: an explicit flag beats NO_COLOR beats FORCE_COLOR beats what the stream is."""
    if color != "auto":
        coloured = color == "always"
    elif terminal.no_color:
        coloured = False
    else:
        coloured = terminal.force_color or (is_terminal(stream) and not terminal.dumb)
    encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
    return Look(colour=coloured, unicode=encoding == "utf8" and not terminal.dumb)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person sits at a stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def columns_of(stream: TextIO) -> int:
    """Return how many columns a stream has; 0 for one that is no terminal."""
    return shutil.get_terminal_size((100, 24)).columns if is_terminal(stream) else 0


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # what Python still wants to flush at the end goes there
        raise PipeClosed from None
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "replace").decode() + "\n")


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
