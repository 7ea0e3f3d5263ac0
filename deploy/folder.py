"""Who may use a folder: one stack at a time, told by a lock that the kernel drops when its holder dies."""

import fcntl
import os
from pathlib import Path

from deploy.errors import FolderUnusable, StackHeld


class FolderLock:
    """Holds `<folder>/lock` from `take` to `release`; the file says which process does. A stale one is taken over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self) -> None:
        """Raises StackHeld when another process, or another stack of this one, has the folder; FolderUnusable."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode(errors="replace").strip()
            os.close(file)
            raise StackHeld(self._folder, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Once or more often. The file stays: were it removed, two holders could lock two files."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FolderUnusable(self._folder, error.strerror or str(error)) from error


def is_open_to_all(path: Path) -> bool:
    """Whether any user gets as far as this file or folder: it and each folder above let everybody pass."""
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))
