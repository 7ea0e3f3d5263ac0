"""Free ports on loopback, below the range that the kernel hands to outgoing connections.

A client that keeps reconnecting to a dead server's port from that range will one day get the same port as its own end,
connect to itself, and keep the server from ever coming back.
"""

import errno
import random
import socket

from deploy.errors import PortInUse, StackError

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_000
TRIES_MAX = 200
_numbers = random.SystemRandom()  # a seeded generator would send all test processes to the same ports


def free_port() -> int:
    """A port nobody listens on now. Raises StackError when none is found."""
    for _ in range(TRIES_MAX):
        port = _numbers.randint(FIRST, LAST)
        if _is_free(port):
            return port
    raise StackError(f"no free port on {LOOPBACK} between {FIRST} and {LAST} in {TRIES_MAX} tries.")


def require_free(port: int) -> None:
    """Raises PortInUse."""
    if not _is_free(port):
        raise PortInUse(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True
