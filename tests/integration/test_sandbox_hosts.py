"""Other hosts than this one: a plain user, a container that denies namespaces, a kernel without Landlock, an older one."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandboxes import NOBODY, python_for_anyone
from toolbox.jail.jail import ROOT
from toolbox.jail.place import reachable

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="sandboxes are made of Linux")

# What Docker's default profile denies, as far as tiers ask for it.
CONTAINER = ("unshare", "setns", "mount", "mount_setattr", "ptrace", "pidfd_getfd", "process_vm_readv", "keyctl", "bpf")
LANDLOCK = "for number in (444, 445, 446): steps += seccomp._when(number, [seccomp._answer(seccomp._UNKNOWN)])"
DENY = """
import asyncio, json, sys
sys.path.insert(0, {root!r})
from toolbox.jail import kernel, seccomp
from toolbox.jail.calls import NUMBERS
from toolbox.sandbox import describe, probe, trials
column = seccomp._MACHINES[seccomp.platform.machine()][0]
steps = [(seccomp._LOAD, 0, 0, seccomp._NUMBER)]
for name in {denied!r}:
    steps += seccomp._when(NUMBERS[name][column], [seccomp._answer(seccomp._REFUSE)])
steps += seccomp._when(NUMBERS["clone3"][column], [seccomp._answer(seccomp._UNKNOWN)])
steps += seccomp._when(NUMBERS["clone"][column], seccomp._if_argument(0, (seccomp._ANY_BIT, 0, 1, seccomp._NEW_NAMESPACES)))
{more}
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(b"".join(seccomp.struct.pack("=HBBI", *step) for step in [*steps, seccomp._answer(seccomp._ALLOW)]))
async def main():
    sandbox = await probe()
    tried = [(trial.tier, trial.isolated, trial.why) async for trial in trials()]
    print(json.dumps([sandbox and (sandbox.tier, sandbox.isolated), tried, describe(sandbox)]))
asyncio.run(main())
"""


def under(denied: tuple[str, ...], more: str = "") -> Any:
    """What `probe` finds in a process that is denied these calls."""
    script = DENY.format(root=str(ROOT), denied=denied, more=more)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_in_a_container_that_denies_namespaces_the_third_tier_holds() -> None:
    sandbox, tried, line = under(CONTAINER)
    assert sandbox == ["confine", False], tried
    assert "no network, not even loopback" in line
    assert all(why for tier, isolated, why in tried if (tier, isolated) != ("confine", False))


def test_where_nothing_holds_there_is_no_sandbox() -> None:
    sandbox, tried, line = under(CONTAINER, LANDLOCK)
    assert sandbox is None
    assert all(why for _, _, why in tried)
    assert "commands are refused" in line


OLDER = """
import os, sys, tempfile, socket, json
sys.path.insert(0, {root!r})
from toolbox.jail import kernel, seccomp
from toolbox.jail.attributes import EXTENDED, OWNERS
from toolbox.jail.calls import SIGNALS
folder = tempfile.mkdtemp(); path = folder + "/f"; open(path, "w").write("x")
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(seccomp.program(loopback=False, truncation=False, also=(*OWNERS, *EXTENDED, *SIGNALS)))
def can(act, *arguments):
    try: act(*arguments)
    except OSError: return False
    return True
print(json.dumps({{
    "read": can(open, path), "write": can(open, path, "w"), "append": can(open, path, "a"),
    "pair": can(socket.socketpair), "run": os.system("exit 7") == 7 << 8,
    "empty": can(os.open, path, os.O_RDONLY | os.O_TRUNC), "truncate": can(os.truncate, path, 0), "chmod": can(os.chmod, path, 0o600),
    "utime": can(os.utime, path), "kill": can(os.kill, os.getpid(), 0), "socket": can(socket.socket), "unix": can(socket.socket, 1),
}}))
os.unlink(path); os.rmdir(folder)
"""


def test_on_an_older_kernel_the_filter_stands_in_for_landlock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OLDER.format(root=str(ROOT))], capture_output=True, check=True, timeout=60
    )
    allowed = {name for name, could in json.loads(done.stdout).items() if could}
    assert allowed == {"read", "write", "append", "pair", "run"}


def test_a_plain_user_has_the_same_walls() -> None:
    if os.geteuid():
        pytest.skip("the whole suite runs as a plain user already")
    python, packages = python_for_anyone(), Path(pytest.__file__).parent.parent
    if python is None or not reachable(ROOT / "toolbox") or not reachable(packages / "pytest"):
        pytest.skip("no interpreter, or no checkout, that another user can read")
    wanted = "nothing_of or second_sandbox or daemon or fork_bomb_stays or one_memory or unit_tests or worker_is_killed or swapped"
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            wanted,
            *sorted((ROOT / "tests/integration").glob("test_sandbox_*.py")),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout
