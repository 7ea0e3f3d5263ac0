"""The calls to the kernel that Python 3.11 has no name for. Every failure is an OSError."""

import ctypes
import os
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)

NEW_NS: Final = 0x00020000
NEW_CGROUP: Final = 0x02000000
NEW_UTS: Final = 0x04000000
NEW_IPC: Final = 0x08000000
NEW_USER: Final = 0x10000000
NEW_PID: Final = 0x20000000
NEW_NET: Final = 0x40000000

MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MS_NOSUID_NODEV_NOEXEC: Final = 0x2 | 0x4 | 0x8
ATTR_RDONLY: Final = 0x1
ATTR_NOSUID: Final = 0x2

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

_MOUNT_SETATTR: Final = 442  # these numbers are the same on every architecture
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_CAPABILITY_VERSION: Final = 0x20080522


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number; returns what it returns."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def prctl(option: int, value: int = 0) -> None:
    """Change something about this process."""
    _checked(_libc.prctl(ctypes.c_int(option), *[ctypes.c_ulong(one) for one in (value, 0, 0, 0)]), f"prctl {option}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, *, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Mount `source` on `target`."""
    texts = [one.encode() if one is not None else None for one in (source, target, kind, options)]
    _checked(_libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def set_mount(path: str, *, add: int = 0, take: int = 0, recursive: bool = False) -> None:
    """Change the attributes of a mount, or of all mounts below a path."""
    attributes = (ctypes.c_uint64 * 4)(add, take, 0, 0)
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    target = ctypes.c_char_p(path.encode())
    syscall(_MOUNT_SETATTR, ctypes.c_int(_AT_FDCWD), target, flags, ctypes.byref(attributes), ctypes.c_size_t(32))


def drop_capabilities() -> None:
    """Give up all capabilities for good, also those that an exec as root would bring back."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # the kernel knows no more of them
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())), "capset")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
