"""The blob store: content by its hash, apart per workspace, never half written."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from events.blobs import BLOB_BYTES_MAX, BlobMissing, BlobTooLarge, FileBlobs
from events.ids import InvalidToken

SHA = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path, sync=False)


async def test_what_was_put_is_found_by_its_hash(blobs: FileBlobs) -> None:
    assert await blobs.put("acme", b"hello") == SHA
    assert await blobs.get("acme", SHA) == b"hello"


async def test_another_workspace_does_not_see_it(blobs: FileBlobs) -> None:
    await blobs.put("acme", b"hello")
    with pytest.raises(BlobMissing):
        await blobs.get("other", SHA)


async def test_the_same_bytes_are_kept_once_also_when_put_at_the_same_time(blobs: FileBlobs, tmp_path: Path) -> None:
    assert set(await asyncio.gather(*(blobs.put("acme", b"hello") for _ in range(8)))) == {SHA}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [SHA]


async def test_a_synced_store_keeps_the_same_bytes(tmp_path: Path) -> None:
    assert await FileBlobs(tmp_path).put("acme", b"hello") == SHA
    assert await FileBlobs(tmp_path).get("acme", SHA) == b"hello"


async def test_too_large_a_blob_is_refused_before_anything_is_written(blobs: FileBlobs, tmp_path: Path) -> None:
    with pytest.raises(BlobTooLarge):
        await blobs.put("acme", bytes(BLOB_BYTES_MAX + 1))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(("workspace", "sha"), [("..", SHA), ("acme", "../../etc/passwd"), ("a/b", SHA), ("acme", "*")])
async def test_a_name_that_leads_elsewhere_is_refused(blobs: FileBlobs, workspace: str, sha: str) -> None:
    with pytest.raises(InvalidToken):
        await blobs.get(workspace, sha)
