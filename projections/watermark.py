"""How far the rows are, for those who wait for a fact: one connection listens for all of them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

from projections.errors import DatabaseUnreachable
from projections.session import Session

CHANNEL: Final = "callboard_position"
_RECHECK_SECONDS: Final = 1.0
"""A notice may get lost with its connection; then the position is asked."""


class Watermark:
    """Knows the position as it was told last. `connect` opens a session of its own for listening."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Session]]) -> None:
        self._connect = connect
        self._seen = 0
        self._moved = asyncio.Event()
        self._listening: Session | None = None
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()

    async def reached(self, seq: int, seconds: float) -> bool:
        """Wait until the position is at `seq` or beyond, `seconds` at most; return whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while self._seen < seq:
                    await self._step(seq)
        except TimeoutError:
            return False
        return True

    async def _step(self, seq: int) -> None:
        moved = self._moved
        try:
            session = await self._session()
            async with self._opening:
                await self.read(session)
        except DatabaseUnreachable:
            self._lost()
        if self._seen < seq:
            await _soon(moved)

    async def read(self, session: Session) -> int:
        """Ask for the position."""
        rows = await session.fetch("SELECT seq FROM callboard.position")
        self._heard(str(rows[0][0]))
        return int(rows[0][0])

    async def _session(self) -> Session:
        async with self._opening:
            if self._listening is None:
                await self._open.aclose()
                session = await self._open.enter_async_context(self._connect())
                await session.listen(CHANNEL, self._heard, self._lost)
                self._listening = session
            return self._listening

    def _heard(self, payload: str) -> None:
        self._seen = int(payload)
        self._moved.set()
        self._moved = asyncio.Event()

    def _lost(self) -> None:
        self._listening = None
        self._seen = 0  # a crash may take the last commits back

    async def close(self) -> None:
        await self._open.aclose()


async def _soon(moved: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_RECHECK_SECONDS):
            await moved.wait()
    except TimeoutError:
        return
