"""Third tier: Landlock, a seccomp filter and limits, set by this process upon itself; works where Docker denies the others.

Without own namespaces a command has no sockets. Is it then still our user, it may change no file's mode by its path, and signal
nobody on kernels before 6.12.
"""

import os
import signal

from toolbox.jail import kernel, landlock, seccomp
from toolbox.jail.attributes import refused
from toolbox.jail.calls import SIGNALS
from toolbox.jail.isolate import separate
from toolbox.jail.limits import limit
from toolbox.jail.spec import Spec


def enter(spec: Spec, status: int) -> None:
    """Turn into the command; raises OSError: it is not confined and was not run. `status` closes by itself."""
    del status
    limit(spec, counted_anew=separate(spec))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    os.chdir(spec.folder)
    writable = [spec.folder, spec.temp, "/dev/null", *(["/dev/shm"] if spec.isolated else [])]  # noqa: S108
    version = landlock.restrict(readable=spec.readable, writable=writable)
    apart = spec.isolated or spec.uid is not None or version >= landlock.SCOPES
    also = (*refused(spec), *(() if apart else SIGNALS))
    seccomp.install(seccomp.program(loopback=spec.isolated, truncation=version >= landlock.TRUNCATE, also=also))
    if spec.isolated:
        _descend()
    _execute(spec)


def _descend() -> None:
    """Go on as a process of the new process namespace; we stay outside to tell its exit code, and a child is its init."""
    signal.signal(
        signal.SIGTERM, lambda _number, _frame: None
    )  # is for the command, which gets the default back when it executes
    _wait_for(os.fork())
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    _wait_for(os.fork())


def _wait_for(child: int) -> None:
    """In the parent: reap all until this child ends, and end like it; whatever is left in init's namespace dies with it."""
    while child:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _execute(spec: Spec) -> None:
    try:
        os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - an argv without a shell is the point
    except OSError as fault:
        os.write(2, f"{spec.argv[0]}: {fault.strerror}\n".encode("utf-8", "replace"))
        os._exit(126 if isinstance(fault, PermissionError) else 127)
