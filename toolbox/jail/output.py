"""A command's output within a limit: its beginning and its end, for the end is where a failure says what failed."""

import asyncio
from collections import deque
from typing import Final

FLOOD_BYTES: Final = 64 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024


class Clipped:
    """Bytes as they come; at most `bytes_max` of them are kept, the first quarter and the last three."""

    def __init__(self, bytes_max: int) -> None:
        self.seen = 0
        self._head_max = bytes_max // 4
        self._tail_max = bytes_max - self._head_max
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    @property
    def truncated(self) -> bool:
        """Whether anything was left out."""
        return self.seen > self._head_max + self._tail_max

    def add(self, data: bytes) -> None:
        """Take in what came."""
        self.seen += len(data)
        room = self._head_max - len(self._head)
        self._head += data[:room]
        if data[room:]:
            self._tail.append(data[room:])
            self._tail_size += len(data[room:])
        while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_max:
            self._tail_size -= len(self._tail.popleft())

    def value(self) -> bytes:
        """Return what was kept, with a mark where something is missing."""
        tail = b"".join(self._tail)[-self._tail_max :]
        if not self.truncated:
            return bytes(self._head) + tail
        return b"%s\n[... %d bytes left out ...]\n%s" % (self._head, self.seen - len(self._head) - len(tail), tail)


async def drain(stream: asyncio.StreamReader, into: Clipped) -> None:
    """Read to the end, or until it is a flood."""
    while into.seen < FLOOD_BYTES and (data := await stream.read(_CHUNK_BYTES)):
        into.add(data)
