"""The blob store: bytes by their sha256, under their workspace, written before the fact that names them."""

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final, Protocol

from events.ids import check_token

BLOB_BYTES_MAX: Final = 64 * 1024 * 1024


class BlobMissing(Exception):
    """No bytes with that sha256 in this workspace."""

    def __init__(self, sha: str) -> None:
        super().__init__(f"no blob {sha[:64]!r} in this workspace")


class BlobTooLarge(Exception):
    """More bytes than one blob may hold."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a blob of {size} bytes; at most {BLOB_BYTES_MAX}")


class Blobs(Protocol):
    """Content by sha256, per workspace."""

    async def put(self, workspace: str, data: bytes) -> str:
        """Keep `data` durably and return its sha256 in hex; raises BlobTooLarge."""
        ...

    async def get(self, workspace: str, sha: str) -> bytes:
        """Return the bytes; raises BlobMissing."""
        ...


class FileBlobs:
    """Blobs as files `<folder>/<workspace>/<2 hex>/<sha256>`; a name appears only once its bytes are on disk."""

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self.folder = folder
        self.sync = sync

    async def put(self, workspace: str, data: bytes) -> str:
        if len(data) > BLOB_BYTES_MAX:
            raise BlobTooLarge(len(data))
        sha = hashlib.sha256(data).hexdigest()
        target = self._path(workspace, sha)
        if not target.exists():
            await asyncio.to_thread(self._write, target, data)
        return sha

    async def get(self, workspace: str, sha: str) -> bytes:
        try:
            return await asyncio.to_thread(self._path(workspace, sha).read_bytes)
        except FileNotFoundError:
            raise BlobMissing(sha) from None

    def _path(self, workspace: str, sha: str) -> Path:
        check_token(sha, "sha256")
        return self.folder / check_token(workspace, "workspace") / sha[:2] / sha

    def _write(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if self.sync:
                    os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        if self.sync:
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
