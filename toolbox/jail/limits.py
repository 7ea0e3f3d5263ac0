"""What a command may use: limits the kernel keeps for each process, and sums over the family that we watch."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

from toolbox.jail.family import fair_memory, family, memory
from toolbox.jail.spec import Spec

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
OPEN_FILES_MAX: Final = 1024
OVERHEAD_PROCESSES: Final = 4  # the tier's own: a runner, or bubblewrap and its init
OVERHEAD_TASKS: Final = 32  # the threads of sandlock's runner


def limit(spec: Spec, *, counted_anew: bool) -> None:
    """Set the limits of this process and of all that will come from it; none can be raised again."""
    before = 0 if counted_anew else _tasks_of(os.getuid())
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, FILE_BYTES_MAX),
        (resource.RLIMIT_NOFILE, OPEN_FILES_MAX),
        (resource.RLIMIT_DATA, spec.memory_bytes_max),
        (resource.RLIMIT_NPROC, before + spec.processes_max + OVERHEAD_TASKS),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.nice(5)


def _tasks_of(uid: int) -> int:
    count = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == uid:
                count += sum(1 for _ in (process / "task").iterdir())
    return count


def excess(spec: Spec) -> str:
    """Return which limit the family of this process is over: `memory`, `processes`, or nothing."""
    relatives = family(os.getpid())
    if len(relatives) > spec.processes_max + OVERHEAD_PROCESSES:
        return "processes"
    if memory(relatives) > spec.memory_bytes_max and fair_memory(relatives) > spec.memory_bytes_max:
        return "memory"
    return ""


def disk_excess(spec: Spec) -> str:
    """Return `disk` if the folders that may be written hold too many files or bytes, else nothing."""
    files = size = 0
    waiting = [spec.folder, spec.temp]
    for folder in waiting:  # grows while it is walked
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                files += 1
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if files > spec.files_max or size > spec.disk_bytes_max:
                    return "disk"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return ""
