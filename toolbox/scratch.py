"""A scratch copy of a branch for one command: filled, worked in, taken back into the branch as a whole or not at all, thrown away.

What a command leaves is hostile until it is read: nothing is followed out of the folder, only plain files are taken.
"""

import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from toolbox.errors import ToolError
from toolbox.ignore import IGNORE_FILE, ignored
from toolbox.jail.folder import in_thread, own_folder
from toolbox.tree import FILE_BYTES_MAX, PATHS_MAX, Branch, Edit, File, check_path

SCRATCH_BYTES_MAX: Final = 64 * 1024 * 1024
DEPTH_MAX: Final = 64
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Final = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


@asynccontextmanager
async def scratch(branch: Branch, root: Path | None = None) -> AsyncGenerator[Path]:
    """Hand out a folder with the branch's files in it, below `root` (by default the system's place for temporary files)."""
    files = [(path, await branch.read(path), branch.entry(path)) for path in branch.paths()]
    async with own_folder(root) as folder:
        await in_thread(lambda: _fill(folder, files))
        yield folder


async def collect(folder: Path, branch: Branch) -> None:
    """Take what a folder holds into the branch: all of it or, on any error, nothing.

    Raises ToolError `not_a_file`, `unreadable`, `too_large`, `too_many_paths`, `too_deep`, `bad_ignore_file`, and those of
    `Branch.apply`.
    """
    await branch.apply(await in_thread(lambda: _edits(folder, branch)))


def _fill(folder: Path, files: list[tuple[str, bytes, File | None]]) -> None:
    for path, data, file in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(file.mode if file else 0o644)


def _edits(folder: Path, branch: Branch) -> dict[str, Edit | None]:
    opened = _open(folder, "the top folder", flags=_FOLDER)
    try:
        left_out = ignored(_ignore_file(opened))
        edits: dict[str, Edit | None] = {path: None for path in branch.paths() if not left_out(path)}
        total = count = 0
        for path, edit in _within(opened, "", left_out):
            total, count = total + len(edit.data), count + 1
            if total > SCRATCH_BYTES_MAX:
                raise ToolError(
                    "too_large", f"the files have more than {SCRATCH_BYTES_MAX} bytes; delete or ignore some"
                )
            if count > PATHS_MAX:
                raise ToolError(
                    "too_many_paths", f"more than {PATHS_MAX} files; delete some, or name them in {IGNORE_FILE}"
                )
            if _same(edit, branch, path):
                del edits[path]
            else:
                edits[path] = edit
        return edits
    finally:
        os.close(opened)


def _same(edit: Edit, branch: Branch, path: str) -> bool:
    entry = branch.entry(path)
    return entry is not None and entry.mode == edit.mode and entry.sha == hashlib.sha256(edit.data).hexdigest()


def _ignore_file(top: int) -> str:
    try:
        return _take(top, IGNORE_FILE, IGNORE_FILE).data.decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _within(opened: int, prefix: str, left_out: Callable[[str], bool]) -> Iterator[tuple[str, Edit]]:
    """Yield the files of an opened folder, then those of the folders in it, by descriptors only."""
    if prefix.count("/") > DEPTH_MAX:
        raise ToolError("too_deep", f"{prefix[:80]!r}...: more than {DEPTH_MAX} folders in each other")
    with os.scandir(opened) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in names:
        path = prefix + name
        if left_out(path):
            continue
        if not is_folder:
            yield check_path(path), _take(opened, name, path)
            continue
        below = _open(name, path, flags=_FOLDER, within=opened)
        try:
            yield from _within(below, f"{path}/", left_out)
        finally:
            os.close(below)


def _take(folder: int, name: str, path: str) -> Edit:
    kind = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(kind.st_mode):
        _refuse(path, kind)
    opened = _open(name, path, flags=_FILE, within=folder)
    with os.fdopen(opened, "rb") as file:
        kind = os.fstat(opened)
        if not stat.S_ISREG(kind.st_mode) or kind.st_nlink > 1:
            _refuse(path, kind)
        if kind.st_size > FILE_BYTES_MAX:
            raise ToolError("too_large", f"{path}: {kind.st_size} bytes; a file has at most {FILE_BYTES_MAX}")
        return Edit(file.read(FILE_BYTES_MAX), 0o755 if kind.st_mode & 0o100 else 0o644)


def _refuse(path: str, kind: os.stat_result) -> None:
    what = _KINDS.get(stat.S_IFMT(kind.st_mode), "a second name of another file" if kind.st_nlink > 1 else "a device")
    raise ToolError(
        "not_a_file", f"{path!r} is {what}; only plain files are kept: remove it, or name it in {IGNORE_FILE}"
    )


def _open(name: str | Path, path: str, *, flags: int, within: int | None = None) -> int:
    try:
        return os.open(name, flags, dir_fd=within)
    except PermissionError:
        raise ToolError("unreadable", f"{path!r}: its mode does not let its owner read it; chmod it first") from None
