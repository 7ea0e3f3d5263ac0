"""A server as a child process: it dies with its parent, ends within a limit, and a killed parent's orphan is found."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

POLL_SECONDS = 0.005
GONE_SECONDS_MAX = 1.0
LOG_BYTES_MAX = 10_000_000
PR_SET_PDEATHSIG = 1

# Loaded before any fork: a forked child of a threaded parent must not load libraries.
_prctl: Callable[[int, int], int] | None = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Account(msgspec.Struct, frozen=True):
    """The user a server runs as, when that is not the user who starts it."""

    uid: int
    gid: int


class Process:
    """A running child. Its output is appended to `log_path`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log_path: Path,
        on_parent_death: signal.Signals,
        account: Account | None = None,
        folder: Path = Path("/"),
    ) -> None:
        """Starts it in `folder`, entered before the rights of `account` are taken on. Raises OSError.

        The kernel ties a child to the thread that started it: `on_parent_death` is also sent when that thread ends.
        """
        with _open_log(log_path) as log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=child_environment(),
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=_dies_with(os.getpid(), on_parent_death),  # noqa: PLW1509 - it makes two system calls
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def kill(self) -> None:
        """SIGKILL, and reaped."""
        self._child.kill()
        self._child.wait()

    def kill_all(self) -> None:
        """SIGKILL for it and for all it started, and reaped; what they had in hand is written by then or never."""
        if self.is_running:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        deadline = time.monotonic() + GONE_SECONDS_MAX
        while _group_is_alive(self._child.pid) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    async def has_ended(self, *, within_seconds: float) -> bool:
        return await becomes_true(lambda: not self.is_running, within_seconds=within_seconds)

    async def stop(self, *signals: signal.Signals, seconds_each: float) -> None:
        """Sends one signal after the other until it ends; SIGKILL at last, also when this wait is cancelled."""
        try:
            for number in signals:
                self._child.send_signal(number)
                if await self.has_ended(within_seconds=seconds_each):
                    return
        finally:
            self.kill()


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def child_environment() -> Mapping[str, str]:
    """What our servers see of the environment: nothing of the user's."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


async def becomes_true(condition: Callable[[], bool], *, within_seconds: float) -> bool:
    """Whether the condition came true in time; it is asked every few milliseconds."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def end_orphan(pid: int, *, argument: str, stop_signal: signal.Signals, within_seconds: float) -> None:
    """Ends what a killed parent left behind: process `pid`, if `argument` stands on its command line.

    The check keeps a stranger safe who got the same number since.
    """
    if not _has_argument(pid, argument):
        return
    for number in (stop_signal, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if await becomes_true(lambda: not _has_argument(pid, argument), within_seconds=within_seconds):
            return


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _has_argument(pid: int, argument: str) -> bool:
    return f" {argument} " in f" {command_line(pid)} "


def command_line(pid: int) -> str:
    """The arguments of a process, a space between; empty when it is gone, a zombie, or not ours to see."""
    try:
        if sys.platform == "linux":
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip()
    except OSError:
        return ""


def read_pid(path: Path) -> int | None:
    """The number on the first line of a pid file, if there is one."""
    try:
        first = path.read_text().partition("\n")[0].strip()
    except OSError:
        return None
    return int(first) if first.isdigit() and int(first) > 1 else None


def _dies_with(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    if _prctl is None:
        return None
    prctl = _prctl

    def hook() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return hook


def _open_log(path: Path) -> IO[bytes]:
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".old.log"))
    return path.open("ab")
