"""Homes for the Postgres of root where its lent account can reach them, and their clearing up after a crash."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import StackHeld
from deploy.folder import FolderLock

THROWAWAY = "tmp-"


def new_home(homes: Path, *, throwaway: bool) -> tuple[Path, FolderLock]:
    """A new folder below `homes`, open to all, and the lock to hold while it is used.

    A throwaway whose holder died without clearing up is removed on the way.
    """
    homes.mkdir(parents=True, exist_ok=True)
    for folder in (homes.parent, homes):
        folder.chmod(0o755)
    with _alone_in(homes):
        _sweep(homes)
        home = homes / f"{THROWAWAY if throwaway else ''}{secrets.token_hex(8)}"
        home.mkdir()
        home.chmod(0o755)
        lock = FolderLock(home)
        lock.take()
    return home, lock


def _sweep(homes: Path) -> None:
    for left in homes.glob(f"{THROWAWAY}*"):
        lock = FolderLock(left)
        try:
            lock.take()
        except StackHeld:
            continue
        shutil.rmtree(left, ignore_errors=True)
        lock.release()


@contextmanager
def _alone_in(homes: Path) -> Generator[None]:
    """One process at a time makes or sweeps homes: a new one must not be swept before it is locked."""
    file = os.open(homes / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
