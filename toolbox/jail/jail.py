"""A sandbox as the worker sees it: start the launcher for one command, read what it says, and end it in time."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

import toolbox
from toolbox.errors import ToolError
from toolbox.jail.folder import in_thread, own_folder
from toolbox.jail.output import FLOOD_BYTES, Clipped, drain
from toolbox.jail.place import hand_over, reachable
from toolbox.jail.ran import Ran
from toolbox.jail.spec import Spec, encode

BOOT: Final = "import sys; sys.path.append(sys.argv[1]); from toolbox.jail.launch import main; main()"
ROOT: Final = Path(toolbox.__path__[0]).resolve().parent
DISK_BYTES_MAX: Final = 512 * 1024 * 1024
FILES_MAX: Final = 20_000
LAUNCHER_SECONDS_MAX: Final = 10.0  # it gives the command 3 s after SIGTERM, then kills
_KILLED: Final = 128 + 9


class Jail(msgspec.Struct, frozen=True, kw_only=True):
    """A tier that works here, as `probe` found it: with or without own namespaces, as which user, with which Python.

    Without namespaces it is the user that keeps commands apart: each gets one of `uids` users from `uid` on.
    """

    tier: str
    isolated: bool
    uid: int | None
    uids: int = 1
    readable: tuple[str, ...]
    search: str
    library: str = ""
    disk_bytes_max: int = DISK_BYTES_MAX
    files_max: int = FILES_MAX

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        folder: Path,
        seconds_max: float,
        memory_bytes_max: int,
        processes_max: int,
        output_bytes_max: int,
        env: Mapping[str, str],
    ) -> Ran:
        """Run a command in `folder`, which alone it may change; all its processes are gone when this returns or is cancelled.

        Raises ToolError `sandbox_failed`: it could not be confined, and did not run.
        """
        uid = None if self.uid is None else self.uid + secrets.randbelow(self.uids)
        if uid is not None and not reachable(folder):
            raise ToolError("sandbox_failed", f"{folder}: every folder above it must let other users pass (o+x)")
        async with own_folder() as temp:  # for HOME and TMPDIR: what falls into it is no work of the command
            if uid is not None:
                await in_thread(lambda: (hand_over(folder, uid), hand_over(temp, uid)))
            spec = Spec(
                tier=self.tier,
                argv=list(argv),
                folder=os.path.realpath(folder),  # noqa: ASYNC240 - two or three lstat
                temp=str(temp),
                env=self._environment(temp) | dict(env),
                readable=list(self.readable),
                uid=uid,
                isolated=self.isolated,
                library=self.library,
                worker=os.getpid(),
                memory_bytes_max=memory_bytes_max,
                processes_max=processes_max,
                disk_bytes_max=self.disk_bytes_max,
                files_max=self.files_max,
            )
            return await _launch(spec, Clipped(output_bytes_max), seconds_max)

    def _environment(self, temp: Path) -> dict[str, str]:
        return {
            "PATH": self.search,
            "HOME": str(temp),
            "TMPDIR": str(temp),
            "USER": "agent",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",  # or what it prints comes behind what its children print
            "GIT_CONFIG_NOSYSTEM": "1",
        }


async def _launch(spec: Spec, output: Clipped, seconds_max: float) -> Ran:
    began = time.monotonic()
    said: dict[str, Any] = {}
    timed_out = False
    async with _launcher(spec, output, said) as stream:
        try:
            async with asyncio.timeout(seconds_max):
                await drain(stream, output)
        except TimeoutError:
            timed_out = True
    killed = "output" if output.seen >= FLOOD_BYTES else said.get("killed", "")
    if not (timed_out or killed) and ("error" in said or "exit-code" not in said):
        why = said.get("error") or output.value()[-500:].decode("utf-8", "replace").strip() or "it ended without a word"
        raise ToolError("sandbox_failed", f"the command did not run: {spec.tier}: {why}")
    return Ran(
        exit_code=_KILLED if killed else said.get("exit-code", _KILLED),
        output=output.value(),
        timed_out=timed_out,
        truncated=output.truncated,
        duration_ms=round((time.monotonic() - began) * 1000),
        killed=killed,
    )


@contextlib.asynccontextmanager
async def _launcher(spec: Spec, output: Clipped, said: dict[str, Any]) -> AsyncGenerator[asyncio.StreamReader]:
    """Start the launcher and hand out what the command says; on leaving, end both, and take their last words into `output`, `said`."""
    hears, tells = os.pipe()
    try:
        command = (sys.executable, "-I", "-S", "-c", BOOT, str(ROOT), str(tells))
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd="/", env={}, pass_fds=(tells,), start_new_session=True
        )
        os.close(tells)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(encode(spec))
                await process.stdin.drain()
            process.stdin.close()
            yield process.stdout
        finally:
            await _end(process, process.stdout, output)
        os.set_blocking(hears, False)
        for line in os.read(hears, 64 * 1024).splitlines():
            said.update(json.loads(line))
    finally:
        os.close(hears)


async def _end(process: Process, stream: asyncio.StreamReader, output: Clipped) -> None:
    """Ask the launcher to end if the command's output has not; it has ended when the output has, for it holds it open too."""
    try:
        async with asyncio.timeout(LAUNCHER_SECONDS_MAX):
            if not stream.at_eof():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            while data := await stream.read(64 * 1024):
                output.add(data)
            await process.wait()
    except TimeoutError:
        process.kill()
        with contextlib.suppress(TimeoutError):  # what even the launcher could not end may hold its output open
            await asyncio.wait_for(process.wait(), 1)
