"""Which tiers work here: each is tried with a command that attacks the walls, on bait that we lay out."""

import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from toolbox.errors import ToolError
from toolbox.jail.folder import own_folder
from toolbox.jail.jail import Jail
from toolbox.jail.place import hand_over, reachable

NOBODY: Final = (65534, 1)
SOMEBODY: Final = (61184, 4336)  # the range that systemd gives to services without a user of their own
NO_CHANGE: Final = (None, 1)
SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
)
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Strongest first; only own namespaces give a loopback, which tests of servers need, so what has them comes before what has not.
LADDER: Final = (
    ("sandlock", True),
    ("bubblewrap", True),
    ("confine", True),
    ("sandlock", False),
    ("confine", False),
)
ROOT_BYTES_MAX: Final = 70
"""A socket's path has 107 bytes at most."""


class Trial(msgspec.Struct, frozen=True):
    """One candidate and what came of it: the sandbox, or why it is none."""

    tier: str
    isolated: bool
    sandbox: Jail | None
    why: str = ""


async def trials() -> AsyncGenerator[Trial]:
    """Try the ladder from its top; each rung is run only when its trial is asked for."""
    if platform.system() != "Linux":
        return
    async with _bait() as bait:
        for tier, isolated in LADDER:
            yield await _try(tier, bait, isolated=isolated)


class _Home(NamedTuple):
    """Whom to become, and where python3 comes from."""

    uid: int | None
    uids: int
    readable: tuple[str, ...]
    search: str


class _Bait(NamedTuple):
    """What a command must not reach: a readable file, a listener on the host's loopback, one on a socket file."""

    secret: Path
    port: int
    path: Path


# Runs inside. Everything but `writes` and, where there is a network of its own, `loopback` must fail.
_ATTACK: Final = """
import json, os, socket, sys
secret, port, path, worker = sys.argv[1:]
def can(act, *arguments):
    try:
        act(*arguments)
    except OSError:
        return False
    return True
def loop():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 2).close()
def local():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
print(json.dumps({
    "version": sys.version_info[:2],
    "writes": can(open, "probe", "w"),
    "loopback": can(loop),
    "reads host files": can(open, secret),
    "reads /etc/shadow": can(open, "/etc/shadow"),
    "changes host files": can(os.chmod, secret, 0o666),
    "reaches host ports": can(socket.create_connection, ("127.0.0.1", int(port)), 2),
    "reaches host sockets": can(local),
    "signals host processes": can(os.kill, int(worker), 0),
}))
"""


def _root() -> Path | None:
    """Name where the bait's socket has a path that a socket can have: TMPDIR may be too deep for one."""
    deep = len(os.fsencode(tempfile.gettempdir())) > ROOT_BYTES_MAX
    return Path("/tmp") if deep else None  # noqa: S108 -- a folder of our own is made in it


@asynccontextmanager
async def _bait() -> AsyncGenerator[_Bait]:
    async with own_folder(_root()) as folder:
        folder.chmod(0o755)
        secret, path = folder / "secret", folder / "socket"
        secret.write_text("bait", encoding="ascii")
        with socket.create_server(("127.0.0.1", 0)) as host, socket.socket(socket.AF_UNIX) as local:
            local.bind(str(path))
            local.listen()
            path.chmod(0o777)
            if os.geteuid() == 0:
                hand_over(folder, NOBODY[0])
            yield _Bait(secret, host.getsockname()[1], path)


async def _try(tier: str, bait: _Bait, *, isolated: bool) -> Trial:
    library = _library() if tier == "sandlock" else ""
    if library is None:
        return Trial(tier, isolated, None, "sandlock is not installed")
    why = "no python3 for it"
    for home in _homes(isolated=isolated):
        jail = Jail(tier=tier, isolated=isolated, library=library, **home._asdict())
        try:
            why = await _holds(jail, bait)
        except ToolError as fault:
            why = str(fault)
        if not why:
            return Trial(tier, isolated, jail)
    return Trial(tier, isolated, None, why)


def _library() -> str | None:
    found = find_spec("sandlock")
    return str(Path(found.origin).parent.parent) if found is not None and found.origin else None


def _homes(*, isolated: bool) -> list[_Home]:
    """Return the choices, best first: a user with no rights, then ourselves; the system's python3, then the one that runs us."""
    system = tuple(path for path in SYSTEM if Path(path).exists())
    own = (*system, sys.base_prefix), f"{sys.base_prefix}/bin:{SEARCH}"
    places = [(system, SEARCH), own] if shutil.which("python3", path=SEARCH) else [own]
    users = [NOBODY if isolated else SOMEBODY, NO_CHANGE] if os.geteuid() == 0 else [NO_CHANGE]
    homes = [_Home(*user, *place) for user, place in product(users, places)]
    return [home for home in homes if home.uid is None or all(reachable(Path(path)) for path in home.readable)]


async def _holds(jail: Jail, bait: _Bait) -> str:
    """Return what is wrong with a candidate; nothing if it holds and is of use."""
    async with own_folder() as folder:
        ran = await jail.run(
            ("python3", "-I", "-c", _ATTACK, str(bait.secret), str(bait.port), str(bait.path), str(os.getpid())),
            folder=folder,
            seconds_max=10,
            memory_bytes_max=512 * 1024 * 1024,
            processes_max=16,
            output_bytes_max=4096,
            env={},
        )
    return _verdict(ran.output, isolated=jail.isolated)


def _verdict(output: bytes, *, isolated: bool) -> str:
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        return f"python3 does not run in it: {output[-200:].decode('utf-8', 'replace').strip()}"
    if tuple(found.pop("version")) < (3, 11):
        return "its python3 is older than 3.11"
    if not found.pop("writes"):
        return "its own folder can't be written"
    if not found.pop("loopback") and isolated:
        return "there is no loopback in it"
    return ", ".join(wall for wall, fell in found.items() if fell)
