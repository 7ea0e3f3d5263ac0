"""Globs over paths: `*`, `?` and `[...]` within a part, `**` for any number of parts; without a `/`, any folder."""

from fnmatch import fnmatchcase
from typing import Final

from toolbox.errors import ToolError

GLOB_CHARACTERS_MAX: Final = 256


def matches(path: str, glob: str) -> bool:
    """Tell whether the whole path fits; raises ToolError `bad_arguments` for a glob that is too long."""
    if len(glob) > GLOB_CHARACTERS_MAX:
        raise ToolError("bad_arguments", f"glob: longer than {GLOB_CHARACTERS_MAX} characters")
    segments = path.split("/")
    ends = {0}  # how many of the path's segments the pattern so far can have used up
    for pattern in _parts(glob):
        if pattern == "**":
            ends = set(range(min(ends), len(segments) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(segments) and fnmatchcase(segments[end], pattern)}
        if not ends:
            return False
    return len(segments) in ends


def _parts(glob: str) -> list[str]:
    return glob.removeprefix("./").split("/") if "/" in glob else ["**", glob]
