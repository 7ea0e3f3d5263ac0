"""Artifacts and files: what runs leave, to look at and to take away."""

import re
from typing import Final
from urllib.parse import quote

import msgspec
from litestar.types import ASGIApp

from gateway import shown, views
from gateway.gateway import Gateway
from gateway.reply import Reply, StreamReply
from gateway.route import Answered, Caller, route
from gateway.zipped import chunks, zipped
from projections.pages import LIMIT_DEFAULT, LIMIT_MAX

OCTETS: Final = "application/octet-stream"
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; ?charset=[a-z0-9-]+)?", re.IGNORECASE)
INERT: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""What an agent wrote is handed over to be kept, never to be run in a browser."""


class OfArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An artifact version's id."""

    id: str


class ZipOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run whose files are wanted."""

    id: str


class FilesOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run, and which part of the list of its files."""

    id: str
    after: str | None = None
    limit: int = LIMIT_MAX


class VersionsOf(OfArtifact, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An artifact version's id, and which part of the list of all of them."""

    after: str | None = None
    limit: int = LIMIT_MAX


class ListArtifacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which artifacts: of a run, of a step by its key, of a media type."""

    run: str | None = None
    step: str | None = None
    type: str | None = None
    after: str | None = None
    limit: int = LIMIT_DEFAULT


class ArtifactsOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The run, and which of its artifacts: of a step by its key, of a media type."""

    id: str
    step: str | None = None
    type: str | None = None
    after: str | None = None
    limit: int = LIMIT_DEFAULT


async def list_artifacts(gateway: Gateway, caller: Caller, asked: ListArtifacts) -> Answered:
    """Artifacts in their last version, oldest first."""
    return await _page(gateway, caller, run=asked.run, asked=asked)


async def of_run(gateway: Gateway, caller: Caller, asked: ArtifactsOfRun) -> Answered:
    """The artifacts of a run in their last version, oldest first."""
    return await _page(gateway, caller, run=asked.id, asked=asked)


async def get(gateway: Gateway, caller: Caller, asked: OfArtifact) -> Answered:
    """One version of an artifact."""
    return Answered(shown.artifact(await gateway.reads.artifact(caller.workspace, asked.id)))


async def versions(gateway: Gateway, caller: Caller, asked: VersionsOf) -> Answered:
    """All versions of the artifact that this is one of."""
    found = await gateway.reads.versions(caller.workspace, asked.id)
    return Answered(views.part(found, after=asked.after, limit=asked.limit))


async def content(gateway: Gateway, caller: Caller, asked: OfArtifact) -> ASGIApp:
    """The bytes of one version of an artifact, as an attachment."""
    row = await gateway.reads.artifact(caller.workspace, asked.id)
    tag = f'"{row.sha}"'
    if caller.headers.get("if-none-match") == tag:
        return Reply(status=304, headers={"ETag": tag})
    data = await gateway.system.blobs.get(caller.workspace, row.sha)
    media_type = row.media_type if _MEDIA_TYPE.fullmatch(row.media_type) else OCTETS
    return Reply(data, media_type=media_type, headers={**_attached(row.name), "ETag": tag})


async def files(gateway: Gateway, caller: Caller, asked: FilesOfRun) -> Answered:
    """The files of a run as they stand now, by path."""
    found = await gateway.reads.files(caller.workspace, asked.id)
    return Answered(views.part(found, after=asked.after, limit=asked.limit))


async def files_zip(gateway: Gateway, caller: Caller, asked: ZipOfRun) -> ASGIApp:
    """All files of a run in one archive; the same files give the same bytes."""
    state = await gateway.operations.run_state(caller.workspace, asked.id)
    archive, size = await zipped(
        gateway.system.blobs, caller.workspace, state.head, bytes_max=gateway.limits.zip_bytes_max
    )
    return StreamReply(
        chunks(archive),
        media_type="application/zip",
        headers={**_attached(f"{asked.id}.zip"), "Content-Length": str(size)},
        send_seconds=gateway.limits.send_seconds_max,
        closed=archive.close,
    )


async def _page(
    gateway: Gateway, caller: Caller, *, run: str | None, asked: ListArtifacts | ArtifactsOfRun
) -> Answered:
    found = await gateway.reads.artifacts(
        caller.workspace, run=run, step=asked.step, media_type=asked.type, after=asked.after, limit=asked.limit
    )
    return Answered(found)


def _attached(name: str) -> dict[str, str]:
    """Return the headers of a download; names beyond ASCII go by RFC 5987."""
    base = name.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", base) or "file"
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(base, safe='')}",
        **INERT,
    }


ROUTES: Final = (
    route("runs.artifacts", "GET /v1/runs/{id}/artifacts", handle=of_run, answers=views.List[views.Artifact]),
    route("runs.files", "GET /v1/runs/{id}/files", handle=files, answers=views.List[views.File]),
    route("runs.zip", "GET /v1/runs/{id}/files.zip", serve=files_zip, media_type="application/zip"),
    route("artifacts.list", "GET /v1/artifacts", handle=list_artifacts, answers=views.List[views.Artifact]),
    route("artifacts.get", "GET /v1/artifacts/{id}", handle=get, answers=views.Artifact),
    route("artifacts.versions", "GET /v1/artifacts/{id}/versions", handle=versions, answers=views.List[views.Artifact]),
    route("artifacts.content", "GET /v1/artifacts/{id}/content", serve=content, media_type=OCTETS),
)
