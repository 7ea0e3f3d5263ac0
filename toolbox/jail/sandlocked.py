"""First tier: sandlock (Landlock ABI 6, seccomp with a supervisor), inside own namespaces where the kernel gives them."""

import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

from toolbox.jail import kernel
from toolbox.jail.attributes import refused
from toolbox.jail.isolate import separate
from toolbox.jail.limits import limit
from toolbox.jail.spec import Spec


def enter(spec: Spec, status: int) -> None:
    """Run the command under sandlock and tell its exit code; raises OSError, and what sandlock raises."""
    sys.path.append(spec.library)
    sandlock: Any = import_module("sandlock")  # before the identity changes: it may lie in a folder of root's
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # we stay to tell the code; SIG_IGN would be inherited
    limit(spec, counted_anew=separate(spec))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Its memory limit is not used: it counts what is only reserved, and kills whoever starts sixty threads.
    box = sandlock.Sandbox(
        fs_readable=spec.readable,
        fs_writable=[spec.folder, spec.temp, "/dev/null", *(["/dev/shm"] if spec.isolated else [])],  # noqa: S108
        cwd=spec.folder,
        clean_env=True,
        env=spec.env,
        max_processes=spec.processes_max,
        no_coredump=True,
        net_allow=["127.0.0.0/8:*", "[::1]:*"] if spec.isolated else [],
        net_allow_bind=["*"] if spec.isolated else [],
        extra_deny_syscalls=list(refused(spec)),
    )
    result = box.popen(spec.argv).wait()
    if result.error or result.reason is None:
        raise OSError(result.error or "sandlock could not start")
    ends = {sandlock.ExitReason.EXITED: result.exit_code, sandlock.ExitReason.SIGNALED: 128 + result.signal}
    os.write(status, json.dumps({"exit-code": ends.get(result.reason, 128 + signal.SIGKILL)}).encode() + b"\n")
    os._exit(0)
