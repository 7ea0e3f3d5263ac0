"""A picture on a terminal that is drawn over and over in its place, and a line of input beside it."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from gateway.view.paint import Line, Look, paint

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""A terminal that knows synchronized output shows a frame whole; the others ignore it."""
INPUT_BYTES_MAX: Final = 64 * 1024


class Picture:
    """The lines drawn last on stderr; the next ones take their place."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._height = 0
        self._shown = ""

    def size(self) -> tuple[int, int]:
        """Return the columns and rows there are for a picture."""
        size = shutil.get_terminal_size((100, 24))
        return size.columns, size.lines - 1

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw lines, none wider and not more than `size` said."""
        body = "".join(f"\x1b[2K{paint(each, self._look)}\n" for each in lines)
        if body == self._shown:
            return
        _put(f"{BEGIN}{HIDE}{self._home()}{body}\x1b[J{END}")
        self._height, self._shown = len(lines), body

    def clear(self) -> None:
        """Take the picture away; what is printed next stands where it was."""
        if self._height:
            _put(f"{self._home()}\x1b[J{SHOW}")
        self._height, self._shown = 0, ""

    def _home(self) -> str:
        return f"\x1b[{self._height}A\r" if self._height else ""


def _put(text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that went away is no reason to stop watching
        sys.stderr.write(text)
        sys.stderr.flush()


async def read_line(prompt: str) -> str | None:
    """Ask on stderr and return what is typed, None at the end of input; it can be canceled, as a thread could not."""
    _put(prompt)
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()
    stdin = sys.stdin.fileno()

    def readable() -> None:
        if not typed.done():
            typed.set_result(os.read(stdin, INPUT_BYTES_MAX))

    loop.add_reader(stdin, readable)
    try:
        line = await typed
    finally:
        loop.remove_reader(stdin)
    return line.decode(errors="replace").strip() if line else None
