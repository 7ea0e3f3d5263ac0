"""Namespaces and identity: what a command finds instead of the host's network, writable mounts and rights."""

import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

from toolbox.jail import kernel
from toolbox.jail.spec import Spec

_OWN: Final = kernel.NEW_NET | kernel.NEW_NS | kernel.NEW_IPC
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a mount of our own is put there
_PROC: Final = "/proc"
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def separate(spec: Spec) -> bool:
    """Take on the namespaces and identity the spec asks for; returns whether this user's processes are counted anew.

    Raises OSError when the kernel refuses; a limit on processes counts all of the user's, unless counted anew.
    """
    own = _OWN | (kernel.NEW_PID if spec.tier == "confine" else 0)  # sandlock looks into /proc, which stays the host's
    if spec.isolated and os.geteuid():
        _enter_user(own)
        _arrange(spec)
        return True
    counted_anew = _could_enter_user(spec)
    if spec.isolated:
        kernel.unshare(own)
        _arrange(spec)
    if os.geteuid() == 0:
        _step_down(spec.uid)
    if counted_anew:
        _enter_user(0)
    return counted_anew


def _could_enter_user(spec: Spec) -> bool:
    """Try it in a child: a user namespace that is half made can't be left again."""
    if os.geteuid() == 0 and spec.uid is None:
        return False  # root's processes are not counted
    trial = os.fork()
    if trial == 0:
        try:
            if os.geteuid() == 0:
                _step_down(spec.uid)
            _enter_user(0)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def _enter_user(flags: int) -> None:
    """Make a user namespace in which this user is still itself, and the namespaces of the flags below it."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.NEW_USER | flags)
    # Bytes: a codec that is imported only now may lie where this user can't read.
    Path("/proc/self/setgroups").write_bytes(b"deny")
    Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (uid, uid))
    Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (gid, gid))


def _arrange(spec: Spec) -> None:
    """Bring up loopback, and make every mount read-only but the folder, the temporary folder and shared memory.

    Landlock leaves chmod, chown, utime and xattr of foreign files alone; a read-only mount does not.
    """
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    writable = [spec.folder, spec.temp]
    for path in writable:
        kernel.mount(path, path, flags=kernel.MS_BIND)
    if Path(_SHARED_MEMORY).is_dir():
        flags = kernel.MS_NOSUID_NODEV_NOEXEC
        kernel.mount("tmpfs", _SHARED_MEMORY, kind="tmpfs", flags=flags, options="size=64m,mode=1777")
        writable.append(_SHARED_MEMORY)
    kernel.set_mount("/", add=kernel.ATTR_RDONLY | kernel.ATTR_NOSUID, recursive=True)
    for path in writable:
        kernel.set_mount(path, take=kernel.ATTR_RDONLY)
    # We still have to write our own user map there; the tiers keep it closed to the command.
    kernel.set_mount(_PROC, take=kernel.ATTR_RDONLY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _step_down(uid: int | None) -> None:
    if uid is None:
        kernel.drop_capabilities()
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # sandlock looks into its own process; nothing secret is in it, as the launcher was started with an empty environment.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
