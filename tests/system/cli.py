"""The command line as a user has it: processes with their output apart, in a folder of their own."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

ARGV = (sys.executable, "-m", "gateway.cli")
ANSI = re.compile(r"\x1b")
READY_SECONDS = 30
STOP_SECONDS = 15
SPEED = "50"


class Ended(msgspec.Struct, frozen=True):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command: nothing of ours."""
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "CALLBOARD_SCRIPT_SPEED": SPEED, **more}


class Folder:
    """A folder in which commands are run."""

    def __init__(self, path: Path, **more: str) -> None:
        self.path = path
        self.environment = environment(**more)

    async def start(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *ARGV,
            *arguments,
            cwd=self.path,
            env=self.environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, stdin: bytes | None = None, seconds: float = 60) -> Ended:
        """Run a command to its end."""
        process = await self.start(
            *arguments, stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(seconds):
                return await ended(process, stdin)
        except TimeoutError:
            process.kill()
            raise AssertionError(f"callboard {' '.join(arguments)} took longer than {seconds:g} s") from None


async def ended(process: asyncio.subprocess.Process, stdin: bytes | None = None) -> Ended:
    """Wait for a command's end."""
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def up(folder: Folder, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run `callboard up` in a folder until the block ends; then it must stop in order."""
    process = await folder.start("up", "--port", "0", *arguments)
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(READY_SECONDS):
        while b"Ctrl-C stops it" not in said:
            line = await process.stdout.readline()
            assert line, f"up ended: {(await ended(process)).err}"
            said += line
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                stopped = await ended(process)
            assert stopped.code == 0, stopped.err
