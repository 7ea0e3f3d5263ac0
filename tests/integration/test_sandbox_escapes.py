"""Attacks on the walls of each tier: on files, processes, network and kernel, and on the host's memory, disk and patience."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tests.integration.sandboxes import NOBODY, RUNGS, a_folder, alive, jail_of, run, shown
from toolbox.jail.folder import sweep
from toolbox.jail.jail import ROOT, Jail
from toolbox.jail.place import discard, hand_over

CANARY = "canary-6f1d2c"
MEGABYTE = 1024 * 1024


class Host(NamedTuple):
    """What the attacks are after: all of it belongs to the very user that the command runs as."""

    folder: Path
    victim: int
    port: int


@pytest.fixture(params=RUNGS)
def jail(request: pytest.FixtureRequest) -> Jail:
    return jail_of(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_folder() as made:
        yield made


@pytest.fixture
def host(jail: Jail) -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="callboard-host-"))
    folder.chmod(0o755)
    for name in ("secret", "second"):
        (folder / name).write_text(CANARY)
        (folder / name).chmod(0o666)
    victim = subprocess.Popen(
        ["sleep", "600"], env={"SECRET": CANARY, "PATH": "/usr/bin:/bin"}, user=NOBODY if jail.uid is not None else None
    )
    with contextlib.ExitStack() as opened:
        tcp = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (f"{folder}/socket", f"\0{folder}"):
            local = opened.enter_context(socket.socket(socket.AF_UNIX))
            local.bind(address)
            local.listen()
        (folder / "socket").chmod(0o777)
        if jail.uid is not None:
            hand_over(folder, NOBODY)
        yield Host(folder, victim.pid, tcp.getsockname()[1])
    victim.kill()
    victim.wait()
    discard(folder)


# Each attempt that does not raise is told with what it got.
ATTEMPTS = """
import ctypes, json, os, pathlib, platform, socket, sys

host, victim, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
secret = host + "/secret"
got = {}

def attempt(name, act, *arguments):
    try:
        got[name] = repr(act(*arguments))[:300]
    except (OSError, ValueError):
        pass

def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)

def linked(make):
    make(secret, "link")
    try:
        return pathlib.Path("link").read_bytes()
    finally:
        os.unlink("link")

def emptied():
    os.close(os.open(secret, os.O_RDONLY | os.O_TRUNC))

libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    result = libc.syscall(*[ctypes.c_long(one) if isinstance(one, int) else one for one in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

for path in (secret, "/etc/shadow", "/etc/gshadow", "/root/.profile", "/root/.ssh/id_rsa", "/dev/mem", "/dev/kmsg", "/dev/sda",
             "/dev/kvm", "/var/log/dpkg.log", "/run/docker.sock", "/sys/kernel/debug", f"/proc/{victim}/environ", "/proc/kcore",
             f"/proc/{victim}/root/etc/shadow", "/proc/self/root" + secret, "/proc/self/cwd/../" + secret.split("/", 2)[2]):
    attempt("read " + path, lambda: open(path, "rb").read(100))
for path in ("/root", "/home", host, "/var/lib", "/etc/ssl/private", "/run"):
    attempt("list " + path, os.listdir, path)
attempt("own environment of init", lambda: open("/proc/1/environ").read())
attempt("write", lambda: open(secret, "a").write("x"))
attempt("create", lambda: open(host + "/new", "w"))
attempt("create in /tmp", lambda: open("/tmp/callboard-escaped", "w"))
attempt("create in /usr", lambda: open("/usr/callboard-escaped", "w"))
attempt("truncate", os.truncate, secret, 0)
attempt("empty by opening", emptied)
attempt("unlink", os.unlink, secret)
attempt("rename", os.rename, secret, "stolen")
attempt("rename over", os.replace, "/proc/self/cwd", host + "/second")
attempt("hard link", linked, os.link)
attempt("soft link", linked, lambda source, name: os.symlink(source, name))
attempt("chmod", os.chmod, secret, 0o777)
attempt("chown", os.chown, secret, os.getuid() or 1, os.getgid() or 1)
attempt("utime", os.utime, secret, (1, 1))
attempt("xattr", os.setxattr, secret, "user.x", b"1")
attempt("device", os.mknod, "device", 0o60600, os.makedev(8, 0))
attempt("signal", os.kill, victim, 0)
attempt("kill", os.kill, victim, 9)
attempt("setuid", os.setuid, 0)
attempt("tcp", connect, socket.AF_INET, ("127.0.0.1", port))
attempt("tcp to any", connect, socket.AF_INET, ("0.0.0.0", port))
attempt("tcp6", connect, socket.AF_INET6, ("::ffff:127.0.0.1", port))
attempt("internet", connect, socket.AF_INET, ("1.1.1.1", 53))
attempt("metadata", connect, socket.AF_INET, ("169.254.169.254", 80))
attempt("unix", connect, socket.AF_UNIX, host + "/socket")
attempt("abstract", connect, socket.AF_UNIX, "\\0" + host)
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("name", socket.getaddrinfo, "example.com", 80)
if platform.machine() == "x86_64":
    attempt("ptrace", call, 101, 16, victim, 0, 0)
    attempt("process_vm_readv", call, 310, victim, 0, 0, 0, 0, 0)
    attempt("unshare user", call, 272, 0x10000000)
    attempt("clone user", call, 56, 0x10000011, 0, 0, 0, 0)
    attempt("setns", call, 308, 0, 0)
    attempt("mount", call, 165, ctypes.c_char_p(b"none"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"tmpfs"), 0, 0)
    attempt("chroot", call, 161, ctypes.c_char_p(b"/"))
    attempt("io_uring", call, 425, 1, ctypes.create_string_buffer(256))
    attempt("keyctl", call, 250, 0, -3, 0)
    attempt("bpf", call, 321, 0, ctypes.create_string_buffer(128), 128)
    attempt("userfaultfd", call, 323, 0)
    attempt("perf", call, 298, ctypes.create_string_buffer(128), 0, -1, -1, 0)
    attempt("memory of others", call, 29, 1, 4096, 0o1600)
    attempt("handle", call, 304, 0, ctypes.create_string_buffer(64), 0)
pathlib.Path("/dev/shm").is_dir() and attempt("shared memory", lambda: open("/dev/shm/callboard-escaped", "w"))
print(json.dumps(got))
"""


async def test_nothing_of_the_host_is_reached(jail: Jail, folder: Path, host: Host) -> None:
    before = {path.name: (path.read_bytes(), path.stat()) for path in host.folder.iterdir() if path.is_file()}
    ran = await run(jail, folder, "python3", "-c", ATTEMPTS, str(host.folder), str(host.victim), str(host.port))
    assert ran.exit_code == 0, ran.output.decode()
    assert CANARY not in ran.output.decode()
    got: dict[str, str] = json.loads(ran.output)
    # bubblewrap's own init, with an empty environment; shared memory of its own.
    got = {name: what for name, what in got.items() if name not in {"own environment of init", "shared memory"}}
    assert got == {}
    after = {path.name: (path.read_bytes(), path.stat()) for path in host.folder.iterdir() if path.is_file()}
    assert {name: (data, at.st_mode, at.st_mtime_ns) for name, (data, at) in after.items()} == {
        name: (data, at.st_mode, at.st_mtime_ns) for name, (data, at) in before.items()
    }
    os.kill(host.victim, 0)
    for place in ("/tmp", "/dev/shm", "/usr"):
        assert not Path(place, "callboard-escaped").exists()


async def test_a_second_sandbox_does_not_reach_the_first(jail: Jail, folder: Path) -> None:
    with a_folder() as other:
        (other / "secret").write_text(CANARY)
        if jail.uid is not None:
            hand_over(other, NOBODY)
        code = f"""
import os
for act in (lambda: print(open("{other}/secret").read()), lambda: os.listdir("{other}"), lambda: os.chmod("{other}", 0o777),
            lambda: open("{other}/new", "w"), lambda: os.rename("{other}/secret", "mine")):
    try:
        act()
        print("done")
    except OSError:
        pass
"""
        ran = await run(jail, folder, "python3", "-c", code)
        assert (ran.exit_code, ran.output) == (0, b"")
        assert other.stat().st_mode & 0o777 == 0o700


async def test_a_fork_bomb_stays_small_and_ends(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    ran = await run(jail, folder, "python3", "-c", code, mark, seconds_max=1.5, processes_max=20)
    assert ran.timed_out or ran.killed == "processes" or ran.exit_code
    assert ran.duration_ms < 6000
    assert not alive(mark)


async def test_a_fork_bomb_of_the_shell_ends(jail: Jail, folder: Path) -> None:
    ran = await run(
        jail, folder, "sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 600", seconds_max=1.5, processes_max=20
    )
    assert ran.timed_out or ran.killed or ran.exit_code
    assert ran.duration_ms < 6000


async def test_memory_beyond_the_limit_is_not_given(jail: Jail, folder: Path) -> None:
    ran = await run(jail, folder, "python3", "-c", "x = b'x' * (64 << 30)")
    assert ran.exit_code
    assert ran.duration_ms < 5000


async def test_many_processes_together_have_one_memory_limit(jail: Jail, folder: Path) -> None:
    code = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        x = b'x' * (100 << 20)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
    ran = await run(jail, folder, "python3", "-c", code, memory_bytes_max=400 * MEGABYTE)
    assert ran.killed == "memory"
    assert ran.exit_code == 137


async def test_memory_that_forks_share_counts_once(jail: Jail, folder: Path) -> None:
    code = """
import os, time
x = b'x' * (150 << 20)
children = [os.fork() or (time.sleep(0.8), os._exit(0)) for _ in range(6)]
for _ in children: os.wait()
"""
    ran = await run(jail, folder, "python3", "-c", code, memory_bytes_max=400 * MEGABYTE)
    assert (ran.exit_code, ran.killed) == (0, "")


async def test_sixty_threads_are_no_offence(jail: Jail, folder: Path) -> None:
    code = "import threading, time\nfor _ in range(60): threading.Thread(target=time.sleep, args=(.2,)).start()"
    ran = await run(jail, folder, "python3", "-c", code, memory_bytes_max=1024 * MEGABYTE, processes_max=64)
    assert ran.exit_code == 0, ran.output.decode()


async def test_a_flood_of_output_is_cut_and_stopped(jail: Jail, folder: Path) -> None:
    code = "import os\nwhile True: os.write(1, b'x' * 65536)"
    ran = await run(jail, folder, "python3", "-c", code, output_bytes_max=10_000)
    assert (ran.truncated, ran.killed) == (True, "output")
    assert len(ran.output) < 10_100
    assert b"bytes left out" in ran.output
    assert ran.duration_ms < 10_000


async def test_a_file_grows_to_its_limit_only(jail: Jail, folder: Path) -> None:
    code = "import os\nwith open('big', 'wb') as file:\n  try: os.ftruncate(file.fileno(), 1 << 40)\n  except OSError as e: print(e)"
    ran = await run(jail, folder, "python3", "-c", code)
    assert ran.exit_code or b"File too large" in ran.output
    assert (folder / "big").stat().st_size == 0


async def test_a_disk_full_of_small_files_is_stopped(jail: Jail, folder: Path) -> None:
    code = "import os\nn = 0\nwhile True:\n  open(f'f{n}', 'w').close(); n += 1"
    ran = await run(msgspec.structs.replace(jail, files_max=500), folder, "python3", "-c", code)
    assert ran.killed == "disk"


async def test_when_the_worker_is_killed_its_commands_end(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    worker = f"""
import asyncio, sys
from pathlib import Path
sys.path[:] = {[str(ROOT), *sys.path]!r}
from toolbox.jail.jail import Jail
import msgspec
jail = msgspec.json.decode(sys.argv[1], type=Jail)
command = ("python3", "-c", "import os, time; os.fork() or os.setsid(); open('up', 'w'); time.sleep(600)", {mark!r})
asyncio.run(jail.run(command, folder=Path(sys.argv[2]), seconds_max=600, memory_bytes_max=1 << 29, processes_max=16,
                     output_bytes_max=1000, env={{}}))
"""
    with a_folder() as temporary:
        temporary.chmod(0o711)
        command = [sys.executable, "-c", worker, msgspec.json.encode(jail), folder]
        with subprocess.Popen(command, env={"TMPDIR": str(temporary)}) as process:
            await shown(folder / "up")
            assert alive(mark)
            process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(8):
            while alive(mark):  # noqa: ASYNC110 - they end on their own, and tell nobody
                await asyncio.sleep(0.02)
        sweep(temporary, settled_seconds=0)
        assert not list(temporary.iterdir())


def test_roots_commands_belong_to_users_without_rights(jail: Jail) -> None:
    if os.geteuid():
        pytest.skip("a plain user can't become another")
    assert (jail.uid, jail.uids) == ((NOBODY, 1) if jail.isolated else (61184, 4336))


async def test_root_without_a_python_for_others_has_bombs_under_control_too(jail: Jail, folder: Path) -> None:
    if os.geteuid() or jail.tier == "bubblewrap":
        pytest.skip("only root can stay root, and bubblewrap refuses to")
    code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    ran = await run(
        msgspec.structs.replace(jail, uid=None), folder, "python3", "-c", code, seconds_max=3, processes_max=20
    )
    assert ran.timed_out or ran.killed == "processes" or ran.exit_code
    assert ran.duration_ms < 10_000
