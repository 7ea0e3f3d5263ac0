"""Where the `up` of a folder runs: a small file beside its data, so that other commands there find it."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "up.json"


class Up(msgspec.Struct, frozen=True):
    """A running `up`: its process and its addresses."""

    api_url: str
    nats_url: str
    database_url: str
    pid: int = 0


def read_up(data: Path) -> Up | None:
    """Return the `up` that runs in a data folder, None if there is none any more."""
    try:
        found = msgspec.json.decode((data / NAME).read_bytes(), type=Up)
        os.kill(found.pid, 0)
    except PermissionError:  # it lives, and is somebody else's
        return msgspec.json.decode((data / NAME).read_bytes(), type=Up)
    except (OSError, msgspec.DecodeError):
        return None
    return found


@contextmanager
def written_up(data: Path, up: Up) -> Generator[None]:
    """Tell where we run, for as long as we do; the file is for its owner only."""
    path, fresh = data / NAME, data / f"{NAME}.{os.getpid()}"
    data.mkdir(parents=True, exist_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(msgspec.structs.replace(up, pid=os.getpid())))
    fresh.replace(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
