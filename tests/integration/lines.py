"""Workers' lines to the log that can stand still, as when the worker itself is stopped and woken later."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.integration.tcp_proxy import TcpProxy


class Line:
    """One worker's line: nothing passes while `moves` is not set."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.url = proxy.url
        self.moves = asyncio.Event()
        self.moves.set()
        proxy.to_server = proxy.to_client = self._pass

    async def _pass(self, data: bytes) -> bytes:
        await self.moves.wait()
        return data


@asynccontextmanager
async def lines(nats_url: str, count: int) -> AsyncGenerator[list[Line]]:
    """Make lines to the log."""
    port = int(nats_url.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        yield [Line(await stack.enter_async_context(TcpProxy(port))) for _ in range(count)]
