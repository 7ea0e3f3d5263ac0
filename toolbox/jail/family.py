"""A process and all that came from it: who they are, what they use, and their certain end."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Relative(NamedTuple):
    """A process, its parent and its process group. A zombie counts too: behind one whose first thread is gone, others may go on."""

    pid: int
    parent: int
    group: int


def family(root: int) -> list[Relative]:
    """Return all descendants of a process, parents before their children."""
    children: dict[int, list[Relative]] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208 - names are all that is wanted, many times a second
        relative = _look(int(name)) if name.isdigit() else None
        if relative is not None:
            children.setdefault(relative.parent, []).append(relative)
    found = list(children.get(root, ()))
    for relative in found:  # grows while it is walked
        found += children.get(relative.pid, ())
    return found


def _look(pid: int) -> Relative | None:
    try:
        after_name = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2]
    except OSError:
        return None
    parent, group = after_name.split()[1:3]
    return Relative(pid, int(parent), int(group))


def program(relative: Relative) -> bytes:
    """Return the arguments a process was executed with, which are its parent's until it executes."""
    with suppress(OSError):
        return (_PROC / str(relative.pid) / "cmdline").read_bytes()
    return b""


def send(relative: Relative, number: int) -> None:
    """Signal exactly this process, even if its number has gone to another in the meantime."""
    with suppress(OSError):
        handle = os.pidfd_open(relative.pid)
        try:
            if _look(relative.pid) == relative:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def end() -> None:
    """Kill every descendant of this process, which must be a subreaper, and return when none is left.

    Against what forks faster than it is found: a process group is killed at once, forks and all, and what has made groups of its
    own is stopped before it is killed, so that it goes on taking up its place under the limit of processes.
    """
    while _reap_any():
        stopped: set[Relative] = set()
        while fresh := set(family(os.getpid())) - stopped:
            for group in {relative.group for relative in fresh} - {os.getpgrp(), 0}:
                with suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            for relative in fresh:
                send(relative, signal.SIGSTOP)
            stopped |= fresh
        for relative in stopped:
            send(relative, signal.SIGKILL)
        if stopped:
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _reap_any() -> bool:
    """Collect who is dead; returns whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def memory(relatives: list[Relative]) -> int:
    """Return the bytes of memory a family holds of its own; pages shared after a fork count for each."""
    return sum(_resident(relative.pid) for relative in relatives)


def fair_memory(relatives: list[Relative]) -> int:
    """Return the same with shared pages divided among their users: exact, and slow."""
    return sum(_proportional(relative.pid) for relative in relatives)


def _resident(pid: int) -> int:
    try:
        resident, shared = (_PROC / str(pid) / "statm").read_bytes().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def _proportional(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return _resident(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))
