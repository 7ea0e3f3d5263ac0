"""The folders a command may write: made for it, handed to its identity, and thrown away whatever it left in them."""

import os
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC  # only Linux has O_PATH, and only Linux has sandboxes


def hand_over(folder: Path, uid: int) -> None:
    """Give a folder that we filled ourselves, and all in it, to another user."""
    for where, _, names, opened in os.fwalk(folder, follow_symlinks=False):
        del where
        os.fchown(opened, uid, uid)
        for name in names:
            os.chown(name, uid, uid, dir_fd=opened, follow_symlinks=False)


def reachable(path: Path) -> bool:
    """Tell whether any user can get to a path: all folders above it let others pass."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def discard(folder: Path) -> None:
    """Remove a folder with anything in it: any depth, any number of files, folders without permissions, links (not followed).

    Folders in it are first moved up to its top, so that neither paths nor our stack grow with their depth.
    """
    numbers = count()
    _open_up(folder)
    top = os.open(folder, _FOLDER)
    try:
        waiting: list[str] = _empty(top, top, numbers)
        for name in waiting:  # grows while it is walked
            opened = os.open(name, _FOLDER, dir_fd=top)
            try:
                waiting += _empty(opened, top, numbers)
            finally:
                os.close(opened)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        folder.rmdir()


def _empty(opened: int, top: int, numbers: "count[int]") -> list[str]:
    """Unlink the files of an opened folder and move its folders to the top under new names, which are returned."""
    moved: list[str] = []
    with os.scandir(opened) as entries:
        found = list(entries)
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=opened)
            continue
        name = f".discard-{os.getpid()}-{next(numbers)}"
        _open_up(entry.name, opened)
        os.rename(entry.name, name, src_dir_fd=opened, dst_dir_fd=top)
        moved.append(name)
    return moved


def _open_up(name: str | Path, within: int | None = None) -> None:
    """Give ourselves all rights to a folder of ours."""
    node = os.open(name, _NODE, dir_fd=within)
    try:
        Path(f"/proc/self/fd/{node}").chmod(0o700)
    finally:
        os.close(node)
