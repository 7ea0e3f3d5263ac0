"""Tools that publish: a file of the run as an artifact, a set of files as a release."""

import asyncio
import io
import zipfile
from typing import Annotated, Final

from msgspec import Meta

from toolbox.errors import ToolError
from toolbox.files import Path
from toolbox.globs import matches
from toolbox.media import media_type
from toolbox.paths import check_path
from toolbox.tool import Artifact, Context, Output, tool

RELEASES: Final = "releases"
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: the same files give the same bytes

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}$", description="Lower-case letters, digits and '-'")]
Version = Annotated[str, Meta(pattern="^[0-9][0-9a-z.-]{0,31}$", description="Like 1.0.0")]


@tool(effect="idempotent", writes=True)
async def save_artifact(
    ctx: Context,
    path: Path,
    title: Annotated[str, Meta(description="What it is, in a few words", max_length=200)] = "",
    content: Annotated[str | None, Meta(description="Its text, if it is not among the files yet")] = None,
) -> Output:
    """Publish a file of the run as a result of this step, after writing it if content is given."""
    path = check_path(path)
    if content is not None:
        await ctx.files.write(path, content.encode())
    return _published(ctx, path, title)


@tool(effect="idempotent", writes=True, risky=True)
async def publish_release(
    ctx: Context,
    name: Name,
    version: Version,
    include: Annotated[list[str], Meta(description="Globs of the files to hand out", min_length=1, max_length=50)],
) -> Output:
    """Hand the work to people outside the run: pack files as releases/<name>-<version>.zip and publish it."""
    paths = [path for path in ctx.files.paths() if any(matches(path, glob) for glob in include)]
    paths = [path for path in paths if not path.startswith(f"{RELEASES}/")]
    if not paths:
        raise ToolError("not_found", f"include: no file fits {', '.join(include)}; list_files shows what there is")
    files = {path: (await ctx.files.read(path), entry.mode) for path in paths if (entry := ctx.files.entry(path))}
    target = check_path(f"{RELEASES}/{name}-{version}.zip")
    await ctx.files.write(target, await asyncio.to_thread(_pack, f"{name}-{version}", files))
    return _published(ctx, target, f"{name} {version}, {len(paths)} files")


def _pack(top: str, files: dict[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, (data, mode) in sorted(files.items()):
            member = zipfile.ZipInfo(f"{top}/{path}", _BEGINNING)
            member.create_system = 3  # Unix, wherever it is packed: only so are the modes kept
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def _published(ctx: Context, path: str, title: str) -> Output:
    entry = ctx.files.entry(path)
    if entry is None:
        raise ToolError("not_found", f"path: there is no file {path!r}; write it first, or give its content")
    artifact = Artifact(name=path, media_type=media_type(path), sha=entry.sha, size=entry.size, title=title or path)
    return Output(f"published {path}, {entry.size} bytes", data={"path": path}, artifacts=(artifact,))
