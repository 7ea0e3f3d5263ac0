"""`callboard artifacts`: what runs leave, to look at and to take away."""

import sys
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

import msgspec
import typer

from gateway.commands.exits import USAGE, Quit
from gateway.commands.nouns import OfRunNoun, group
from gateway.commands.options import (
    Here,
    JsonOption,
    LimitOption,
    OutputOption,
    RunArgument,
    YesOption,
    find_artifact,
    find_run,
    here,
    run_async,
)
from gateway.commands.screen import PipeClosed

app = group(OfRunNoun, "Look at what runs leave, and take it away.")

ArtifactArgument = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="Its id, a beginning of it, or RUN:name, as in @last:docs/plan.md.")
]
EXECUTABLE: Final = 0o755
PLAIN: Final = 0o644
FILE_BYTES_MAX: Final = 512 * 1024 * 1024


@app.command("list")
def list_artifacts(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run; without one, of all runs.")] = None,
    step: Annotated[str | None, typer.Option("--step", help="Only what this step left.")] = None,
    limit: LimitOption = 200,
    output: OutputOption = "table",
    json: JsonOption = False,
) -> None:
    """List artifacts in their last version."""
    run_async(_list(here(ctx, output=output, json=json), run, step, limit))


@app.command("get")
def get(
    ctx: typer.Context, artifact: ArtifactArgument, output: OutputOption = "table", json: JsonOption = False
) -> None:
    """Show one artifact, without its content."""
    run_async(_get(here(ctx, output=output, json=json), artifact))


@app.command("cat")
def cat(ctx: typer.Context, artifact: ArtifactArgument) -> None:
    """Write an artifact's content to stdout, byte for byte."""
    run_async(_cat(here(ctx), artifact))


@app.command("pull")
def pull(
    ctx: typer.Context,
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="Where to; it must not exist, or be empty, or --yes.")],
    yes: YesOption = False,
) -> None:
    """Write all files of a run into a folder."""
    run_async(_pull(here(ctx), run, folder, yes=yes))


async def _list(at: Here, named: str | None, step: str | None, limit: int) -> None:
    from gateway import views
    from gateway.view.entities import ARTIFACTS, artifact_row

    async with at.client() as client:
        path = f"/v1/runs/{await find_run(client, named)}/artifacts" if named else "/v1/artifacts"
        found = await client.rows(path, limit=limit, step=step)
    artifacts = [msgspec.json.decode(row, type=views.Artifact) for row in found.rows]
    showing = at.screen.showing()
    at.screen.many(
        found.rows,
        ids=[artifact.id for artifact in artifacts],
        columns=ARTIFACTS,
        rows=lambda: [artifact_row(artifact, showing) for artifact in artifacts],
        nothing="no artifacts yet",
        more=found.has_more,
        next_cursor=found.next_cursor,
    )


async def _get(at: Here, named: str) -> None:
    from gateway import views
    from gateway.view.entities import artifact_row
    from gateway.view.table import fields

    async with at.client() as client:
        raw = await client.raw(f"/v1/artifacts/{await find_artifact(client, named)}")
    artifact = msgspec.json.decode(raw, type=views.Artifact)
    showing = at.screen.showing()
    at.screen.one(raw, id_=artifact.id, lines=lambda: fields(list(artifact_row(artifact, showing).items())))


async def _cat(at: Here, named: str) -> None:
    async with at.client() as client:
        content = await client.raw(f"/v1/artifacts/{await find_artifact(client, named)}/content")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise PipeClosed from None


async def _pull(at: Here, named: str, folder: Path, *, yes: bool) -> None:
    from gateway import views

    if is_other(folder):
        raise Quit(USAGE, f"{folder} is no folder", hint="choose another name")
    if not is_free(folder):
        at.screen.confirm(f"{folder} is not empty: write over what is in it?", yes=yes)
    async with at.client() as client:
        run = await find_run(client, named)
        stands = await client.get(f"/v1/runs/{run}/status", views.Status)
        archive = await client.raw(f"/v1/runs/{run}/files.zip")
    written = unpack(archive, folder)
    far = (
        "" if stands.status in views.ENDED else f"; it is {stands.status}: these are the files of the steps done so far"
    )
    at.screen.say(f"{len(written)} files of {run}{far}")
    at.screen.write(str(folder))


def is_other(folder: Path) -> bool:
    """Tell whether something is there that is no folder."""
    return folder.exists() and not folder.is_dir()


def is_free(folder: Path) -> bool:
    """Tell whether a folder can be filled: it is not there, or it is empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def unpack(archive: bytes, folder: Path) -> list[Path]:
    """Write the files of an archive below a folder and return their paths; raises Quit on one that would escape it."""
    try:
        with ZipFile(BytesIO(archive)) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            targets = [_target(entry, folder) for entry in entries]
            for entry, target in zip(entries, targets, strict=True):
                _write(target, opened.read(entry), entry, folder)
    except BadZipFile as fault:
        raise Quit(USAGE, f"what came is no archive: {fault}") from None
    except OSError as fault:
        raise Quit(
            USAGE, f"cannot write to {folder}: {fault.strerror or fault}", hint="choose another folder"
        ) from None
    return targets


def _target(entry: ZipInfo, folder: Path) -> Path:
    """An agent named these paths: none may leave the folder, however it is written."""
    path = PurePosixPath(entry.filename)
    bad = path.is_absolute() or not path.parts or ".." in path.parts or "\\" in entry.filename or ":" in path.parts[0]
    if bad or entry.file_size > FILE_BYTES_MAX or any(not part.isprintable() for part in path.parts):
        raise Quit(USAGE, f"the archive holds a path that is not written: {entry.filename[:200]!r}")
    return folder.joinpath(*path.parts)


def _write(target: Path, content: bytes, entry: ZipInfo, folder: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        raise Quit(USAGE, f"{target} goes through a link, out of {folder}: nothing is written there")
    target.write_bytes(content)
    target.chmod(EXECUTABLE if entry.external_attr >> 16 & 0o100 else PLAIN)
