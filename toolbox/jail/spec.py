"""What the launcher is told, as one line of JSON on its standard input."""

import json
from typing import NamedTuple


class Spec(NamedTuple):
    """One command and its walls. A NamedTuple: the launcher imports nothing but the standard library.

    `folder` and `temp` are all that may be written; `readable` is all else that may be read. `uid` is whom to become (None: stay,
    without capabilities). `isolated` asks for own network, mounts and IPC. `library` is where sandlock is installed.
    """

    tier: str
    argv: list[str]
    folder: str
    temp: str
    env: dict[str, str]
    readable: list[str]
    uid: int | None
    isolated: bool
    library: str
    worker: int
    memory_bytes_max: int
    processes_max: int
    disk_bytes_max: int
    files_max: int


def encode(spec: Spec) -> bytes:
    """Return the spec as JSON."""
    return json.dumps(spec._asdict()).encode()


def decode(data: bytes) -> Spec:
    """Return the spec that the worker wrote."""
    return Spec(**json.loads(data))
