"""The wires between one process and the servers: they can be cut, or held for a while, for this process alone."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.integration.tcp_proxy import TcpProxy, untouched


class Proxies:
    """Wires to all NATS nodes and to Postgres."""

    def __init__(self, nats: Sequence[TcpProxy], postgres: TcpProxy) -> None:
        self.nats = nats
        self.postgres = postgres

    @property
    def nats_url(self) -> str:
        return ",".join(proxy.url for proxy in self.nats)

    @property
    def database_url(self) -> str:
        return f"postgresql://callboard@127.0.0.1:{self.postgres.port}/postgres?sslmode=disable"

    def cut(self, wires: Sequence[TcpProxy]) -> None:
        for proxy in wires:
            proxy.cut()

    async def hold(self, wires: Sequence[TcpProxy], seconds: float) -> None:
        """Let nothing through for a while, then end the connections: a partition that heals."""
        healed = asyncio.Event()

        async def held(data: bytes) -> bytes:
            await healed.wait()
            return data

        for proxy in wires:
            proxy.to_server = proxy.to_client = held
        try:
            await asyncio.sleep(seconds)
        finally:
            for proxy in wires:
                proxy.to_server = proxy.to_client = untouched
            healed.set()
            self.cut(wires)


@asynccontextmanager
async def proxies(nats_ports: Sequence[int], postgres_socket: str) -> AsyncGenerator[Proxies]:
    """Lay the wires of one process."""
    async with AsyncExitStack() as stack:
        nats = [await stack.enter_async_context(TcpProxy(port)) for port in nats_ports]
        yield Proxies(nats, await stack.enter_async_context(TcpProxy(postgres_socket)))
