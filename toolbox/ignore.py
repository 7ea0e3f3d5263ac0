"""What of a folder never becomes a file of the run: caches, git's own, and what `.callboardignore` names."""

from collections.abc import Callable
from typing import Final

from toolbox.errors import ToolError
from toolbox.globs import matches
from toolbox.paths import folders_of

IGNORE_FILE: Final = ".callboardignore"
IGNORED: Final = ("__pycache__", "*.pyc", ".git")
LINES_MAX: Final = 200


def ignored(text: str) -> Callable[[str], bool]:
    """Return what tells whether a path is left out, from the lines of `.callboardignore` (globs; `#` begins a comment).

    A glob names files and folders; one without a `/` fits in any folder. Raises ToolError `bad_ignore_file`.
    """
    lines = [line.strip() for line in text.splitlines()]
    globs = [_anchored(line) for line in lines if line and not line.startswith("#")]
    if len(globs) > LINES_MAX or any(glob.startswith("!") for glob in globs):
        raise ToolError("bad_ignore_file", f"{IGNORE_FILE}: at most {LINES_MAX} globs, and none with '!'")
    return lambda path: any(matches(part, glob) for part in (*folders_of(path), path) for glob in (*IGNORED, *globs))


def _anchored(line: str) -> str:
    return f".{line.rstrip('/')}" if line.startswith("/") else line.rstrip("/")
