"""What nats-server and Postgres have in common: a folder that is held, a process in it, and the ways to end it."""

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from deploy.folder import FolderLock
from deploy.process import Process

START_SECONDS_MAX = 60.0  # recovery of a large store comes before readiness
STOP_SECONDS_MAX = 10.0


class Server(ABC):
    """`async with` runs it. In between it may be killed and started again: address and data stay."""

    name: ClassVar[str]
    stop_signals: ClassVar[tuple[signal.Signals, ...]]

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._lock = FolderLock(self._folder)
        self._process: Process | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect to."""

    @property
    @abstractmethod
    def log_path(self) -> Path:
        """What the server says."""

    @abstractmethod
    async def start(self) -> None:
        """Starts it, or starts it again as it was; ready when this returns. Raises StackError."""

    @property
    def pid(self) -> int:
        """Raises ProcessLookupError when it was never started."""
        if self._process is None:
            raise ProcessLookupError(f"{self.name} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    async def stop(self) -> None:
        """A clean end within ten seconds a signal, a hard one after that."""
        if self._process is not None:
            await self._process.stop(*self.stop_signals, seconds_each=STOP_SECONDS_MAX)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    async def __aenter__(self) -> Self:
        """Raises StackError, and leaves nothing running then."""
        self._lock.take()
        try:
            await self.start()
        except BaseException:
            self._let_go()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """When the process has ended for good."""
        self._lock.release()
