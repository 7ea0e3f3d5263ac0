"""The files of a run as one archive, the same bytes for the same files: by path, without times, not compressed."""

import asyncio
import zipfile
from collections.abc import AsyncGenerator, Mapping
from tempfile import TemporaryFile
from typing import IO, Final

from events.blobs import Blobs
from events.fact import File
from gateway.errors import Problem

CHUNK_BYTES: Final = 256 * 1024
BEGINNING_OF_TIME: Final = (1980, 1, 1, 0, 0, 0)
UNIX: Final = 3
REGULAR: Final = 0o100000


async def zipped(blobs: Blobs, workspace: str, files: Mapping[str, File], *, bytes_max: int) -> tuple[IO[bytes], int]:
    """Return the archive as a file, which the caller closes, and its size. Raises BlobMissing, Problem (413)."""
    size = sum(file.size for file in files.values())
    if size > bytes_max:
        raise Problem(413, "too_large", f"the files have {size} bytes; an archive takes at most {bytes_max}")
    out: IO[bytes] = TemporaryFile()  # noqa: SIM115 -- the caller closes it
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for path, file in sorted(files.items()):
                data = await blobs.get(workspace, file.sha)
                await asyncio.to_thread(archive.writestr, _entry(path, file.mode), data)
        total = out.tell()
        out.seek(0)
    except BaseException:
        out.close()
        raise
    return out, total


async def chunks(file: IO[bytes]) -> AsyncGenerator[bytes]:
    """Yield what is left of a file."""
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


def _entry(path: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, BEGINNING_OF_TIME)
    entry.create_system = UNIX
    entry.external_attr = (REGULAR | mode) << 16
    return entry
