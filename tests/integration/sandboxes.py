"""The sandboxes of this host, and short ways to run a command in one."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from toolbox.jail.jail import Jail
from toolbox.jail.place import discard, reachable
from toolbox.jail.trial import LADDER, Trial, trials
from toolbox.sandbox import Ran

NOBODY: Final = 65534  # whom isolated commands of root belong to
RUNGS: Final = [pytest.param(rung, id=f"{rung[0]}-{'isolated' if rung[1] else 'bare'}") for rung in LADDER]


@cache
def survey() -> dict[tuple[str, bool], Trial]:
    """Try every rung once a session."""

    async def everything() -> list[Trial]:
        return [trial async for trial in trials()]

    return {(trial.tier, trial.isolated): trial for trial in asyncio.run(everything())}


def jail_of(rung: tuple[str, bool]) -> Jail:
    """The sandbox of a rung; skips the test, with the reason, where the host does not carry it."""
    trial = survey().get(rung)
    if trial is None or trial.sandbox is None:
        pytest.skip(f"{rung[0]} does not hold here: {trial.why if trial else 'not Linux'}")
    return trial.sandbox


@contextmanager
def a_folder() -> Generator[Path]:
    """A scratch folder in a place that other users can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-"))
    try:
        yield folder
    finally:
        discard(folder)


async def run(
    jail: Jail,
    folder: Path,
    *argv: str,
    seconds_max: float = 20,
    memory_bytes_max: int = 512 * 1024 * 1024,
    processes_max: int = 32,
    output_bytes_max: int = 64 * 1024,
    env: Mapping[str, str] | None = None,
) -> Ran:
    return await jail.run(
        argv,
        folder=folder,
        seconds_max=seconds_max,
        memory_bytes_max=memory_bytes_max,
        processes_max=processes_max,
        output_bytes_max=output_bytes_max,
        env=env or {},
    )


async def shown(path: Path) -> None:
    """Wait until a command has made this file."""
    async with asyncio.timeout(10):
        while not path.exists():  # noqa: ASYNC110 - another process makes it, which can set no event of ours
            await asyncio.sleep(0.01)


def alive(mark: str) -> list[int]:
    """Processes that have this word among their arguments."""
    found: list[int] = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def python_for_anyone() -> str | None:
    """An interpreter of our version that any user can start, if there is one."""
    if reachable(Path(sys.executable).resolve()):
        return sys.executable
    return shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
