"""Landlock: this process and its children may open only what is listed, and signal or reach only each other."""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from typing import Final

from toolbox.jail import kernel

TRUNCATE: Final = 3  # the versions of the kernel's interface that brought what we rely on
NETWORK: Final = 4
SCOPES: Final = 6

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_READ_FILE, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 1, 1 << 14
_EXECUTE, _READ_DIR = 1 << 0, 1 << 3
_MAKE_DEVICES = 1 << 6 | 1 << 11
_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def version() -> int:
    """Return the kernel's Landlock version; raises OSError where there is none."""
    return kernel.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def restrict(*, readable: Iterable[str], writable: Iterable[str]) -> int:
    """Confine this process for good; returns the Landlock version. Raises OSError: not confined."""
    found = version()
    handled = _RIGHTS[min(found, 5)]
    # Network rules are left out: without a network of its own the command can't even make a socket (seccomp).
    attributes = struct.pack("QQQ", handled, 0, 3 if found >= SCOPES else 0)
    size = 24 if found >= SCOPES else 16 if found >= NETWORK else 8
    rules = kernel.syscall(_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path in readable:
        _allow(rules, path, handled & (_EXECUTE | _READ_FILE | _READ_DIR))
    for path in writable:
        _allow(rules, path, handled & ~_MAKE_DEVICES)
    kernel.syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    return found


def _allow(rules: int, path: str, rights: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
        rule = struct.pack("=Qi", rights, opened)
        kernel.syscall(_ADD, ctypes.c_int(rules), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
    finally:
        os.close(opened)
