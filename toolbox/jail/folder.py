"""Folders for the time of one command. Each is locked while its worker lives, so that what a killed one left can be told and swept."""

import asyncio
import fcntl
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from toolbox.jail.place import discard

PREFIX: Final = "callboard-run-"
SETTLED_SECONDS: Final = 60.0  # a folder younger than that may not have its lock yet

T = TypeVar("T")


@asynccontextmanager
async def own_folder(root: Path | None = None) -> AsyncGenerator[Path]:
    """Make a folder below `root` (by default the system's place for temporary files); it is gone afterwards, with all in it."""
    folder = _make(root)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)
        await in_thread(lambda: discard(folder))


def _make(root: Path | None) -> Path:
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=root)).resolve()


async def in_thread(work: Callable[[], T]) -> T:
    """Run this in a thread, and be cancelled only when it is done: nobody else may use its folder before."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def sweep(root: Path | None = None, *, settled_seconds: float = SETTLED_SECONDS) -> None:
    """Remove what workers that were killed have left; what belongs to others, or to the living, stays."""
    for folder in (root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.clock_gettime(time.CLOCK_REALTIME) - folder.lstat().st_ctime < settled_seconds:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                discard(folder)
            finally:
                os.close(lock)
