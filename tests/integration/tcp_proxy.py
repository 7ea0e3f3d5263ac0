"""A TCP proxy before a real server that can lose what passes: answers swallowed, requests held back, the line cut."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Tamper = Callable[[bytes], Awaitable[bytes]]


async def untouched(data: bytes) -> bytes:
    return data


class TcpProxy:
    """`async with TcpProxy(port) as proxy:` listens on `proxy.url`. Chunks pass through `to_server` and `to_client`.

    The server may also be a Unix socket, by its path.
    """

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.to_server: Tamper = untouched
        self.to_client: Tamper = untouched

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End every connection at once; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        await asyncio.gather(
            self._pump(reader, server_writer, self._up),
            self._pump(server_reader, writer, self._down),
        )
        self._writers -= ends

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)

    async def _up(self, data: bytes) -> bytes:
        return await self.to_server(data)

    async def _down(self, data: bytes) -> bytes:
        return await self.to_client(data)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tamper: Tamper) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop's word for a connection that was cut
            while data := await reader.read(1 << 16):
                writer.write(await tamper(data))
                await writer.drain()
        writer.transport.abort()


class Swallow:
    """Drops the first chunk that holds `mark`."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.swallowed = asyncio.Event()

    async def __call__(self, data: bytes) -> bytes:
        if not self.swallowed.is_set() and self._mark in data:
            self.swallowed.set()
            return b""
        return data


class Hold:
    """Keeps the first chunk that holds `mark`, and all behind it, until `release` is set."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.held = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, data: bytes) -> bytes:
        if self._mark in data and not self.held.is_set():
            self.held.set()
            await self.release.wait()
        return data


class Delay:
    """Keeps the first chunk that holds `mark` until the second one comes, and lets it go `before` that or behind."""

    def __init__(self, mark: bytes, *, before: bool) -> None:
        self._mark = mark
        self._before = before
        self._kept: bytes | None = None
        self._over = False

    async def __call__(self, data: bytes) -> bytes:
        if self._over or self._mark not in data:
            return data
        if self._kept is None:
            self._kept = data
            return b""
        self._over = True
        return self._kept + data if self._before else data + self._kept
