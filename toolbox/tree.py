"""The run's files: a head of path -> file, branches of it to work on, and the merge of what branches changed."""

from collections.abc import Iterable, Mapping
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from toolbox.errors import FilesAway, ToolError
from toolbox.paths import check_path, folders_of, lies_in

PATHS_MAX: Final = 1000
FILE_BYTES_MAX: Final = 8 * 1024 * 1024

__all__ = [
    "FILE_BYTES_MAX",
    "PATHS_MAX",
    "Blobs",
    "Branch",
    "Conflict",
    "Edit",
    "File",
    "Merged",
    "check_path",
    "compose",
    "merge",
]


class File(msgspec.Struct, frozen=True, array_like=True):
    """The sha256 of a file's bytes in hex, its mode (0o644 or 0o755), its size in bytes."""

    sha: str
    mode: int = 0o644
    size: int = 0


class Blobs(Protocol):
    """Bytes by their sha256, already bound to a workspace."""

    async def put(self, data: bytes) -> str:
        """Keep the bytes; return their sha256 in hex."""
        ...

    async def get(self, sha: str) -> bytes:
        """Return the bytes kept under that sha256."""
        ...


class Edit(msgspec.Struct, frozen=True):
    """What a path shall hold."""

    data: bytes
    mode: int = 0o644


class Branch:
    """Files to work on, apart from the head they came from; `changes` tells what became different.

    `writes` names the paths and folders that may change (none: all), `readonly` forbids every change.
    """

    def __init__(
        self, entries: Mapping[str, File], blobs: Blobs, *, writes: tuple[str, ...] = (), readonly: bool = False
    ) -> None:
        self._base = dict(entries)
        self._entries = dict(entries)
        self._blobs = blobs
        self._writes = writes
        self._readonly = readonly

    @property
    def readonly(self) -> bool:
        """Whether nothing here can be changed."""
        return self._readonly

    def paths(self) -> tuple[str, ...]:
        """Return all paths, sorted."""
        return tuple(sorted(self._entries))

    def entry(self, path: str) -> File | None:
        """Return what is known of a file without reading it; None if there is none."""
        return self._entries.get(path)

    def view(self) -> "Branch":
        """Return the files as they are now, not to be changed."""
        return Branch(self._entries, self._blobs, readonly=True)

    async def read(self, path: str) -> bytes:
        """Return a file's bytes; raises ToolError `bad_path`, `not_found`, and FilesAway."""
        file = self._entries.get(check_path(path))
        if file is None:
            raise ToolError("not_found", f"there is no file {path!r}; list_files shows what there is")
        try:
            return await self._blobs.get(file.sha)
        except Exception as fault:
            raise FilesAway(f"{path}: {fault}") from fault

    async def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Set a file's bytes and mode; errors as in `apply`."""
        await self.apply({path: Edit(data, mode)})

    def delete(self, path: str) -> None:
        """Take a file away; raises ToolError `bad_path`, `not_found`, `read_only`, `outside_writes`."""
        path = check_path(path)
        if path not in self._entries:
            raise ToolError("not_found", f"there is no file {path!r}; list_files shows what there is")
        self._allow(path)
        del self._entries[path]

    async def apply(self, edits: Mapping[str, Edit | None]) -> None:
        """Make all of these edits (None deletes) or, on any error, none of them.

        Raises ToolError `bad_path`, `read_only`, `outside_writes`, `too_large`, `too_many_paths`, `path_collision`, and FilesAway.
        """
        edits = {check_path(path): edit for path, edit in edits.items()}
        for path, edit in edits.items():
            self._allow(path)
            if edit is not None and len(edit.data) > FILE_BYTES_MAX:
                raise ToolError("too_large", f"{path}: {len(edit.data)} bytes; a file has at most {FILE_BYTES_MAX}")
        self._check_paths({*self._entries, *edits} - {path for path, edit in edits.items() if edit is None}, edits)
        files = {path: await self._put(edit) for path, edit in edits.items() if edit is not None}
        for path in edits:
            self._entries.pop(path, None)
        self._entries |= files

    def changes(self) -> dict[str, tuple[File | None, File | None]]:
        """Return (before, after) of each path that is not as the branch began; None is no file."""
        pairs = {path: (self._base.get(path), self._entries.get(path)) for path in {*self._base, *self._entries}}
        return {path: pair for path, pair in sorted(pairs.items()) if pair[0] != pair[1]}

    def _allow(self, path: str) -> None:
        if self._readonly:
            raise ToolError("read_only", f"{path}: these files can't be changed here")
        if self._writes and not any(lies_in(path, place) for place in self._writes):
            raise ToolError("outside_writes", f"{path}: this step may write only {', '.join(self._writes)}")

    def _check_paths(self, paths: set[str], edited: Iterable[str]) -> None:
        changed = {*edited, *self.changes()}
        if len(paths) > PATHS_MAX or len(changed) > PATHS_MAX:
            raise ToolError(
                "too_many_paths",
                f"{max(len(paths), len(changed))} files; a run has at most {PATHS_MAX}, delete some first",
            )
        clash = _collisions(paths)
        if clash:
            raise ToolError("path_collision", f"{clash[0]}: one path can't be a file and a folder at once")

    async def _put(self, edit: Edit) -> File:
        try:
            sha = await self._blobs.put(edit.data)
        except Exception as fault:
            raise FilesAway(str(fault)) from fault
        return File(sha, 0o755 if edit.mode & 0o100 else 0o644, len(edit.data))


F = TypeVar("F")


class Merged(msgspec.Struct, Generic[F], frozen=True):
    """The head with a step's changes in it."""

    head: dict[str, F]


class Conflict(msgspec.Struct, frozen=True):
    """Nothing was merged: each of these changed paths meets another change, or a file where it needs a folder."""

    paths: tuple[str, ...]


def merge(head: Mapping[str, F], changes: Mapping[str, tuple[F | None, F | None]]) -> Merged[F] | Conflict:
    """Take changes into a head, path by path: all of them, or none and every path that is in the way.

    A path that is in the head as it was before, takes the change; one that is already as after, stays; else it is a conflict.
    More than PATHS_MAX paths in the end are a conflict of those that came new.
    """
    merged = dict(head)
    torn = {path for path, pair in changes.items() if head.get(path) not in pair}
    for path, (_, after) in changes.items():
        merged.pop(path, None)
        if after is not None:
            merged[path] = after
    added = merged.keys() - head.keys()
    torn |= {path for path in _collisions(merged) if path in changes}
    torn |= added if len(merged) > PATHS_MAX else set()
    return Conflict(tuple(sorted(torn))) if torn else Merged(merged)


def compose(
    first_changes: Mapping[str, tuple[F | None, F | None]], then_changes: Mapping[str, tuple[F | None, F | None]]
) -> dict[str, tuple[F | None, F | None]]:
    """Fold two successive sets of changes into one: before of the first, after of the last; what was undone is no change."""
    composed = dict(first_changes)
    for path, (before, after) in then_changes.items():
        composed[path] = (composed[path][0] if path in composed else before, after)
    return {path: pair for path, pair in sorted(composed.items()) if pair[0] != pair[1]}


def _collisions(paths: Iterable[str]) -> list[str]:
    """Return the paths that are a folder of others, or lie in a path that is a file."""
    files = set(paths)
    folders = {folder for path in files for folder in folders_of(path)}
    return sorted(path for path in files if path in folders or not files.isdisjoint(folders_of(path)))
