"""Time by the log's server: all processes count by one clock, the one that fires timers, whatever their machines say.

In between a process counts on by its monotonic clock, so that a jump of the machine's clock moves nothing.
"""

import asyncio
from typing import Final

import structlog

from events.clock import Clock
from events.envelope import from_rfc3339
from events.jetstream.api import CALLBOARD_INBOX, Answer, ask
from events.jetstream.connection import Bus
from events.log import LogUnavailable

LOOK_SECONDS: Final = 5.0
ROUND_TRIP_SECONDS_MAX: Final = 0.25
"""An answer that was longer under way tells too little, unless it is the first."""
SKEW_MS_MAX: Final = 5_000
"""A machine whose clock is further off is told of, once."""

log = structlog.get_logger(__name__)


class _Info(Answer, frozen=True):
    ts: str = ""


class LogClock:
    """A clock that shows the server's time; before the first answer it shows its own."""

    def __init__(self, bus: Bus, own: Clock) -> None:
        self._bus = bus
        self._own = own
        self._server_ms: float | None = None
        self._at = 0.0
        self._told = False

    def now_ms(self) -> int:
        if self._server_ms is None:
            return self._own.now_ms()
        return round(self._server_ms + (self._own.monotonic() - self._at) * 1000)

    def monotonic(self) -> float:
        return self._own.monotonic()

    def new_id(self, prefix: str) -> str:
        return self._own.new_id(prefix)

    async def look(self) -> None:
        """Ask the server for its time; without an answer the last one counts on."""
        began = self._own.monotonic()
        try:
            info = await ask(self._bus, f"STREAM.INFO.{CALLBOARD_INBOX}", None, answer=_Info)
        except LogUnavailable:
            return
        took = self._own.monotonic() - began
        if info.ts and (took <= ROUND_TRIP_SECONDS_MAX or self._server_ms is None):
            self._server_ms, self._at = from_rfc3339(info.ts) + took * 500, began + took
            self._tell()

    async def keep(self) -> None:
        """Look again now and then, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    def _tell(self) -> None:
        skew = self._own.now_ms() - self.now_ms()
        if abs(skew) > SKEW_MS_MAX and not self._told:
            self._told = True
            log.warning("clock_differs", ahead_ms=skew, reason="the log's server has another time; that one counts")
