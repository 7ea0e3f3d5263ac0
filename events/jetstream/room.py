"""How much room the log has, so that it never gets quite full: what asks for something new is refused before.

The last part of it is for results and ends: what was paid for can be stored, and a cancel can be written.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from events.fact import Fact, name_of
from events.jetstream.api import CALLBOARD, Answer, ask
from events.jetstream.connection import Bus
from events.log import LogFull, LogUnavailable

FILLING: Final = 0.7
"""From here on it is said in the process's log."""
NEW_RUN: Final = "run.requested"
NEW_RUNS_UP_TO: Final = 0.9
NEW_WORK: Final = frozenset({"step.started", "agent.requested", "model.requested", "tool.requested", "tool.started"})
NEW_WORK_UP_TO: Final = 0.95

LIMITED_SECONDS: Final = 1.0
UNLIMITED_SECONDS: Final = 5.0
ASK_SECONDS_MAX: Final = 1.0
OWN_SHARE_MAX: Final = 0.01
"""When this process alone has written so much of the limit, it looks again at once."""

log = structlog.get_logger(__name__)


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1
    max_msgs: int = -1


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0
    messages: int = 0


class _Info(Answer, frozen=True):
    config: _Config = _Config()
    state: _State = _State()


class Room:
    """What the log's limits, if it has any, leave. Asked now and then by those who append."""

    def __init__(self, bus: Bus) -> None:
        self.used = 0.0
        """The part of its limit that the log has taken, 0 without one."""
        self._bus = bus
        self._bytes_max = 0
        self._due = 0.0
        self._written = 0

    async def admit(self, fact: Fact, size: int) -> None:
        """Let a fact of `size` bytes in, or raise LogFull: new runs first, then new work; results and ends always pass."""
        self._written += size
        if asyncio.get_running_loop().time() >= self._due or self._written > self._bytes_max * OWN_SHARE_MAX > 0:
            await self.look()
        name = name_of(fact)
        if (self.used >= NEW_RUNS_UP_TO and name == NEW_RUN) or (self.used >= NEW_WORK_UP_TO and name in NEW_WORK):
            raise LogFull(f"it is {self.used:.0%} full, and the rest is kept for results and ends")

    async def look(self) -> None:
        """Learn how full the log is; what was known stays while it does not answer."""
        self._due = asyncio.get_running_loop().time() + (
            LIMITED_SECONDS if self.used else UNLIMITED_SECONDS
        )  # others need not look too
        self._written = 0
        try:
            info = await ask(self._bus, f"STREAM.INFO.{CALLBOARD}", None, answer=_Info, seconds=ASK_SECONDS_MAX)
        except LogUnavailable:
            return  # the append itself will say more
        before, self.used = self.used, _used(info)
        self._bytes_max = max(0, info.config.max_bytes)
        if self.used:
            self._due = min(self._due, asyncio.get_running_loop().time() + LIMITED_SECONDS)
        if before < FILLING <= self.used:
            log.warning("log_filling", used=round(self.used, 3), stream=CALLBOARD)


def _used(info: _Info) -> float:
    limits = ((info.state.bytes, info.config.max_bytes), (info.state.messages, info.config.max_msgs))
    return max((used / limit for used, limit in limits if limit > 0), default=0.0)
