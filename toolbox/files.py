"""Tools on the run's files: read, write, edit, delete, list and search them."""

from typing import Annotated, Final

from msgspec import Meta

from toolbox.errors import ToolError
from toolbox.globs import matches
from toolbox.paths import check_path
from toolbox.tool import OUTPUT_BYTES_MAX, Context, Output, tool

LINES_MAX: Final = 2000
HITS_MAX: Final = 200
LINE_CHARACTERS_MAX: Final = 300
_ROOM: Final = OUTPUT_BYTES_MAX - 256  # what is said about the text stands after it

Path = Annotated[str, Meta(description="Path relative to the top of the run's files, like src/app.py")]
Glob = Annotated[str, Meta(description="Like src/**/*.py; without a '/' it fits in any folder", max_length=256)]


@tool(effect="read")
async def read_file(
    ctx: Context,
    path: Path,
    offset: Annotated[int, Meta(description="First line to return, counted from 1", ge=1)] = 1,
    limit: Annotated[int, Meta(description="How many lines to return at most", ge=1, le=LINES_MAX)] = 500,
) -> str:
    """Return the text of a file exactly as it is. If lines remain after the last one shown, the end of the answer says so."""
    lines = (await _text(ctx, path)).splitlines(keepends=True)
    if offset > max(1, len(lines)):
        raise ToolError("bad_arguments", f"offset: {path} has {len(lines)} lines")
    shown: list[str] = []
    room = _ROOM
    for line in lines[offset - 1 : offset - 1 + limit]:
        room -= len(line.encode())
        if room < 0 and shown:
            break
        shown.append(line)
    last = offset - 1 + len(shown)
    more = f"\n[lines {offset}-{last} of {len(lines)}; go on with offset {last + 1}]" if last < len(lines) else ""
    return "".join(shown) + more


@tool(effect="idempotent", writes=True)
async def write_file(
    ctx: Context,
    path: Path,
    content: Annotated[str, Meta(description="The whole text of the file")],
    executable: Annotated[bool, Meta(description="Whether the file is a program to run")] = False,  # noqa: FBT002 - given by name
) -> str:
    """Write a file, new or over the old one. Folders come by themselves."""
    path = check_path(path)
    entry = ctx.files.entry(path)
    await ctx.files.write(path, content.encode(), 0o755 if executable or (entry and entry.mode == 0o755) else 0o644)
    return f"{'wrote over' if entry else 'wrote'} {path}, {len(content.encode())} bytes"


@tool(effect="idempotent", writes=True)
async def edit_file(
    ctx: Context,
    path: Path,
    old: Annotated[
        str, Meta(description="Text that stands in the file exactly once, with its indentation", min_length=1)
    ],
    new: Annotated[str, Meta(description="Text to put in its place; empty to take it out")],
) -> str:
    """Replace one piece of a file's text by another."""
    path = check_path(path)
    text = await _text(ctx, path)
    count = text.count(old)
    if count != 1:
        way_out = "read the file and copy the text exactly" if count == 0 else "take in more lines around it"
        raise ToolError("not_unique", f"old: stands {count} times in {path}, not once; {way_out}")
    entry = ctx.files.entry(path)
    await ctx.files.write(path, text.replace(old, new).encode(), entry.mode if entry else 0o644)
    return f"edited {path}, line {text[: text.index(old)].count(chr(10)) + 1}"


@tool(effect="idempotent", writes=True)
async def delete_file(ctx: Context, path: Path) -> str:
    """Delete a file."""
    ctx.files.delete(path)
    return f"deleted {check_path(path)}"


@tool(effect="read")
async def list_files(ctx: Context, glob: Glob = "**") -> Output:
    """List the paths of the run's files that fit a glob, with their sizes in bytes."""
    found = [path for path in ctx.files.paths() if matches(path, glob)]
    sizes = {path: entry.size for path in found if (entry := ctx.files.entry(path))}
    lines = [f"{path}\t{size}" for path, size in sizes.items()]
    return Output("\n".join(lines) or f"no file fits {glob!r}", data={"count": len(found)})


@tool(effect="read")
async def search_files(
    ctx: Context,
    pattern: Annotated[str, Meta(description="Text to look for, taken literally", min_length=1, max_length=500)],
    glob: Glob = "**",
    ignore_case: Annotated[bool, Meta(description="Whether A fits a")] = False,  # noqa: FBT002 - given by name
) -> str:
    """Find the lines that contain a text, as path:line: text."""
    wanted = pattern.casefold() if ignore_case else pattern
    hits: list[str] = []
    for path in ctx.files.paths():
        if not matches(path, glob):
            continue
        lines = (await ctx.files.read(path)).decode("utf-8", "replace").splitlines()
        hits += [
            f"{path}:{number}: {line.strip()[:LINE_CHARACTERS_MAX]}"
            for number, line in enumerate(lines, 1)
            if wanted in (line.casefold() if ignore_case else line)
        ]
        if len(hits) > HITS_MAX:
            return "\n".join([*hits[:HITS_MAX], f"[more than {HITS_MAX} lines; narrow the glob or the pattern]"])
    return "\n".join(hits) or f"no line contains {pattern!r}"


async def _text(ctx: Context, path: str) -> str:
    try:
        return (await ctx.files.read(path)).decode()
    except UnicodeDecodeError:
        raise ToolError("not_text", f"{path} is not UTF-8 text") from None
