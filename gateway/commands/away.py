"""A gateway that went away while it was followed: said once, shown as long as it lasts, and said again when it is back."""

from collections.abc import Callable

from gateway.client import LOST_SECONDS_MAX
from gateway.commands.screen import Screen
from gateway.view.paint import Line, Piece, line


class Away:
    """Whether it is away, why, and since when; `seconds` is a monotonic clock."""

    def __init__(self, screen: Screen, *, talks: bool, seconds: Callable[[], float]) -> None:
        self.why = ""
        self._since = 0.0
        self._screen = screen
        self._talks = talks
        self._seconds = seconds

    def note(self, why: str) -> None:
        """Take in why it is gone, or (empty) that it is back."""
        if why and not self.why:
            self._since = self._seconds()
            self._say(Piece(f"the gateway is away ({why}); waiting for it for {LOST_SECONDS_MAX:g} s", "warn"))
        elif self.why and not why:
            self._say(Piece("the gateway is back; nothing was missed", "good"))
        self.why = why

    def lines(self) -> list[Line]:
        """Return what a picture shows of it."""
        if not self.why:
            return []
        gone = self._seconds() - self._since
        sign = self._screen.err.sign("asks")
        return [
            line(),
            line(Piece(f"{sign} the gateway is away for {gone:.0f} s: {self.why}", "warn")),
            line(Piece(f"  the run goes on; this waits up to {LOST_SECONDS_MAX:g} s", "dim")),
        ]

    def _say(self, piece: Piece) -> None:
        if self._talks:
            self._screen.say(line(piece))
