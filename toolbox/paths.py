"""Paths in a run's files: relative, plain, the same on every host."""

from typing import Final
from unicodedata import category

from toolbox.errors import ToolError

PATH_BYTES_MAX: Final = 1024
SEGMENT_BYTES_MAX: Final = 255

# Control, format (bidi, zero width), lone surrogate, line and paragraph separator: a reader would not see what is there.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def check_path(path: str) -> str:
    """Return the path without `./`; raises ToolError `bad_path` that names the rule it breaks."""
    fault = _fault(path)
    if fault:
        shown = path[:80].encode("ascii", "backslashreplace").decode()
        raise ToolError("bad_path", f"path {shown!r}: {fault}; give a path relative to the top of the run's files")
    return "/".join(segment for segment in path.split("/") if segment != ".")


def _fault(path: str) -> str:
    segments = path.split("/")
    if not path.strip("./"):
        return "it names no file"
    if path.startswith("/"):
        return "it must not be absolute"
    if path.startswith("~"):
        return "it must not begin with '~'"
    if any(category(character) in _UNSEEN for character in path):
        return "it holds control or invisible characters"
    if ".." in segments:
        return "'..' is not allowed"
    if "" in segments:
        return "it has an empty part ('//' or a '/' at its end)"
    if ".git" in segments:
        return "'.git' is kept out of the run's files"
    return _length_fault(path, segments)


def _length_fault(path: str, segments: list[str]) -> str:
    if len(path.encode()) > PATH_BYTES_MAX:
        return f"it is longer than {PATH_BYTES_MAX} bytes"
    if any(len(segment.encode()) > SEGMENT_BYTES_MAX for segment in segments):
        return f"one of its parts is longer than {SEGMENT_BYTES_MAX} bytes"
    return ""


def folders_of(path: str) -> list[str]:
    """Return the folders a path lies in, outermost first: `a/b/c` lies in `a` and `a/b`."""
    segments = path.split("/")
    return ["/".join(segments[:end]) for end in range(1, len(segments))]


def lies_in(path: str, place: str) -> bool:
    """Tell whether a path is that file, or lies in that folder."""
    place = place.rstrip("/")
    return path == place or path.startswith(f"{place}/")
