"""Media types by file ending: a table of our own, for the system's differs from machine to machine and a fold must not."""

from collections.abc import Mapping
from typing import Final

TYPES: Final[Mapping[str, str]] = {
    "css": "text/css",
    "csv": "text/csv",
    "gif": "image/gif",
    "html": "text/html",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "md": "text/markdown",
    "pdf": "application/pdf",
    "png": "image/png",
    "py": "text/x-python",
    "sh": "text/x-shellscript",
    "sql": "application/sql",
    "svg": "image/svg+xml",
    "toml": "application/toml",
    "ts": "text/typescript",
    "txt": "text/plain",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
}


def media_type(path: str) -> str:
    """Return the media type of a path, `application/octet-stream` for an ending that is not in the table."""
    return TYPES.get(path.rpartition(".")[2].lower(), "application/octet-stream")
