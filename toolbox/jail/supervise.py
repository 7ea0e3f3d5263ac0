"""The launcher's parent half: wait for the command, watch its limits, and leave nothing of it behind."""

import json
import os
import signal
import time
from typing import Final

from toolbox.jail import kernel
from toolbox.jail.family import end, family, program, send
from toolbox.jail.limits import disk_excess, excess
from toolbox.jail.spec import Spec
from toolbox.jail.tiers import WRAPPED, enter

GRACE_SECONDS: Final = 3.0
TICK_SECONDS: Final = 0.2
ASK_SECONDS: Final = 0.05
TICKS_PER_DISK_CHECK: Final = 5
WATCHED: Final = (signal.SIGCHLD, signal.SIGTERM)


def supervise(spec: Spec, status: int) -> None:
    """Run the command to its end, or to that of the worker, of a limit, or of our patience after SIGTERM.

    Lines of JSON on the file descriptor `status`: `exit-code` when it ran, `killed` with the limit, `error` when it could not start.
    """
    os.set_inheritable(status, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != spec.worker:
        return  # it died before we asked to be told
    child = os.fork()
    if child == 0:
        _become(spec, status)
    code = _watch(spec, child, status)
    end()
    if code is not None and spec.tier not in WRAPPED:
        tell(status, {"exit-code": code})


def tell(status: int, line: dict[str, object]) -> None:
    """Write one line for the worker."""
    os.write(status, json.dumps(line).encode() + b"\n")


def _become(spec: Spec, status: int) -> None:
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        enter(spec, status)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the worker must be told and this process must end
        tell(status, {"error": f"{type(fault).__name__}: {fault}"})
    finally:
        os._exit(125)


def _watch(spec: Spec, child: int, status: int) -> int | None:
    """Return the command's exit code; None if it was ended from outside."""
    ticks, due = 0, time.monotonic() + TICK_SECONDS
    while True:
        caught = signal.sigtimedwait(WATCHED, max(0.0, due - time.monotonic()))
        code = _reap(child)
        if code is not None:
            return code
        if caught is not None and caught.si_signo == signal.SIGTERM:
            return _wait_out(spec, child)
        if time.monotonic() >= due:
            ticks, due = ticks + 1, time.monotonic() + TICK_SECONDS
            over = excess(spec) or (disk_excess(spec) if ticks % TICKS_PER_DISK_CHECK == 0 else "")
            if over:
                tell(status, {"killed": over})
                return None


def _wait_out(spec: Spec, child: int) -> int | None:
    """Ask the family to end, and give it its time; returns the exit code if it took it.

    Who is only about to execute the command does not hear us, so each is asked again when it has become another program.
    """
    asked: set[tuple[int, bytes]] = set()
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        for relative in family(os.getpid()):
            known = (relative.pid, program(relative))
            if known not in asked and (relative.pid != child or spec.tier not in WRAPPED):
                send(relative, signal.SIGTERM)
                asked.add(known)
        signal.sigtimedwait(WATCHED, ASK_SECONDS)
        code = _reap(child)
        if code is not None:
            return code
    return None


def _reap(child: int) -> int | None:
    """Collect the dead; returns the child's exit code, or 128 + its signal, if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
