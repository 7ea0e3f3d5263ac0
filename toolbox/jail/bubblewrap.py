"""Second tier: bubblewrap, for kernels too old for sandlock; it shows the command only what is bound into its own root."""

import os
import signal
from pathlib import Path
from typing import Final

from toolbox.jail import kernel, seccomp
from toolbox.jail.isolate import separate
from toolbox.jail.limits import limit
from toolbox.jail.spec import Spec

SHARED_MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
# A program that is not there must be an exit code like anywhere else; bubblewrap ends as if it had failed itself.
_TELLS_MISSING: Final = ("/bin/sh", "-c", 'exec "$@"', "sh")


def enter(spec: Spec, status: int) -> None:
    """Turn into bubblewrap, which tells the exit code on `status` itself; raises OSError."""
    limit(spec, counted_anew=separate(spec._replace(isolated=False)))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    rules = os.memfd_create("seccomp", 0)
    os.write(rules, seccomp.program(loopback=True))
    os.lseek(rules, 0, os.SEEK_SET)
    os.set_inheritable(status, True)
    os.execve(_bubblewrap(), _arguments(spec, rules=rules, status=status), {})  # noqa: S606 - an argv, no shell


def _bubblewrap() -> str:
    found = [path for path in ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap") if os.access(path, os.X_OK)]
    if not found:
        raise FileNotFoundError("bwrap is not installed")
    return found[0]


def _arguments(spec: Spec, *, rules: int, status: int) -> list[str]:
    arguments = [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "sandbox",
        "--cap-drop",
        "ALL",
    ]
    for path in spec.readable:
        if path.startswith("/dev/"):
            continue
        link = Path(path).is_symlink()
        arguments += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]  # noqa: PTH115 - kept verbatim
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(SHARED_MEMORY_BYTES_MAX), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    for path in (spec.folder, spec.temp):
        arguments += ["--bind", path, path]
    arguments += ["--remount-ro", "/", "--chdir", spec.folder, "--clearenv"]
    for name, value in spec.env.items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--seccomp", str(rules), "--json-status-fd", str(status), "--", *_TELLS_MISSING, *spec.argv]
