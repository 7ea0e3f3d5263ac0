"""A seccomp filter, assembled by hand: what a confined command is refused by the kernel, whatever it may open.

Refused calls answer EPERM, so that programs go on; a call of a foreign architecture kills.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from typing import Final

from toolbox.jail import kernel
from toolbox.jail.calls import AARCH64, ALWAYS, NUMBERS, X86_64

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_MACHINES: Final = {"x86_64": (X86_64, 0xC000003E), "aarch64": (AARCH64, 0xC00000B7)}
_X32_CALLS: Final = 0x40000000
_NEW_NAMESPACES: Final = (
    kernel.NEW_NS
    | kernel.NEW_CGROUP
    | kernel.NEW_UTS
    | kernel.NEW_IPC
    | kernel.NEW_USER
    | kernel.NEW_PID
    | kernel.NEW_NET
)
_INET: Final = (2, 10)
_READ_TRUNCATING: Final = 0o1000  # O_TRUNC together with O_RDONLY

_Step = tuple[int, int, int, int]


def program(*, loopback: bool, truncation: bool = True, also: Iterable[str] = ()) -> bytes:
    """Return the filter for this machine; raises OSError on an architecture it does not know.

    `loopback` allows internet sockets (there must be a network namespace), `truncation` cutting files by their path; the calls
    that `also` names are refused too.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}")
    column, architecture = _MACHINES[machine]
    numbers = {name: pair[column] for name, pair in NUMBERS.items()}
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        _answer(_KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    steps += [(_AT_LEAST, 0, 1, _X32_CALLS), _answer(_UNKNOWN)] if column == X86_64 else []
    for name in (*ALWAYS, *also):
        steps += _when(numbers[name], [_answer(_REFUSE)])
    steps += _when(numbers["clone3"], [_answer(_UNKNOWN)])  # its flags can't be read here; libc then takes clone
    steps += _when(numbers["clone"], _if_argument(0, (_ANY_BIT, 0, 1, _NEW_NAMESPACES)))
    steps += _when(numbers["socket"], _sockets() if loopback else [_answer(_REFUSE)])
    steps += [] if truncation else _truncation(numbers)
    return b"".join(struct.pack("=HBBI", *step) for step in [*steps, _answer(_ALLOW)])


def install(rules: bytes) -> None:
    """Put this process and its children under the filter for good; raises OSError."""
    buffer = ctypes.create_string_buffer(rules, len(rules))
    header = struct.pack("@HP", len(rules) // 8, ctypes.addressof(buffer))
    numbers = {"x86_64": 317, "aarch64": 277}
    set_filter = ctypes.c_uint(1)
    kernel.syscall(numbers[platform.machine()], set_filter, ctypes.c_uint(0), ctypes.c_char_p(header))


def _answer(value: int) -> _Step:
    return (_RETURN, 0, 0, value)


def _when(number: int | None, then: list[_Step]) -> list[_Step]:
    """Do these steps, which must end in answers, for one system call; the others jump over them."""
    return [] if number is None else [(_EQUAL, 0, len(then), number), *then]


def _if_argument(index: int, refused: _Step) -> list[_Step]:
    """Refuse if the low half of an argument passes the test (which skips one step if not), else allow."""
    return [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * index), refused, _answer(_REFUSE), _answer(_ALLOW)]


def _sockets() -> list[_Step]:
    first, second = _INET
    return [
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, first),
        (_EQUAL, 0, 1, second),
        _answer(_ALLOW),
        _answer(_REFUSE),
    ]


def _truncation(numbers: dict[str, int | None]) -> list[_Step]:
    """Before Landlock knew truncation, a file that may only be read could be emptied by opening it so."""
    steps = _when(numbers["truncate"], [_answer(_REFUSE)]) + _when(numbers["openat2"], [_answer(_UNKNOWN)])
    for name, index in (("open", 1), ("openat", 2)):
        load = (_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * index)
        test = [(_AND, 0, 0, _READ_TRUNCATING | 0o3), (_EQUAL, 0, 1, _READ_TRUNCATING)]
        steps += _when(numbers[name], [load, *test, _answer(_REFUSE), _answer(_ALLOW)])
    return steps
