"""A server that speaks just enough of the NATS protocol to be connected to, and says what no real one here would say."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import msgspec


class FakeServer:
    """Tells any version, lets in nobody (`refuses`), or hangs up for good on a publish to `die`."""

    def __init__(self, *, version: str = "2.15.1", refuses: bool = False) -> None:
        self._refuses = refuses
        self._info = {
            "server_id": "fake",
            "version": version,
            "max_payload": 1 << 20,
            "headers": True,
            "proto": 1,
            "auth_required": refuses,
        }
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO %b\r\n" % msgspec.json.encode(self._info))
        with contextlib.suppress(ConnectionResetError):
            while line := await reader.readline():
                if line.startswith(b"CONNECT") and self._refuses:
                    writer.write(b"-ERR 'Authorization Violation'\r\n")
                    break
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
                if line.startswith(b"PUB die"):
                    writer.write(b"-ERR 'Account Is Gone'\r\n")
        writer.close()
