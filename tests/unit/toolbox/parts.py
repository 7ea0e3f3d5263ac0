"""Parts for tests of the toolbox: blobs in memory, and a context around a branch."""

import hashlib
from typing import Any

import msgspec

from toolbox.tool import Context, Output, Tool, call
from toolbox.tree import Branch, File


class MemoryBlobs:
    """Bytes by their sha256, gone with the test."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        self.kept[sha] = data
        return sha

    async def get(self, sha: str) -> bytes:
        return self.kept[sha]


class LostBlobs(MemoryBlobs):
    """A store that has gone away."""

    async def put(self, data: bytes) -> str:
        raise ConnectionError("no route to the store")

    async def get(self, sha: str) -> bytes:
        raise ConnectionError("no route to the store")


async def a_branch(
    files: dict[str, str] | None = None, *, writes: tuple[str, ...] = (), readonly: bool = False
) -> Branch:
    """A branch that begins with these texts."""
    blobs = MemoryBlobs()
    entries = {
        path: File(await blobs.put(text.encode()), 0o644, len(text.encode())) for path, text in (files or {}).items()
    }
    return Branch(entries, blobs, writes=writes, readonly=readonly)


async def use(tool: Tool, branch: Branch, /, _context: dict[str, Any] | None = None, **arguments: Any) -> Output:
    """Call a tool as the engine does, with the arguments as JSON."""
    return await call(tool, msgspec.json.encode(arguments), Context(files=branch, **(_context or {})))


async def text_of(branch: Branch, path: str) -> str:
    return (await branch.read(path)).decode()
