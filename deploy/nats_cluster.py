"""Three nats-servers of one cluster on loopback: what production runs, on one machine, each node to be killed by itself."""

import asyncio
import json
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, cast

from deploy.errors import DidNotStart
from deploy.nats_server import NatsServer, Seat
from deploy.ports import free_port
from deploy.server import START_SECONDS_MAX

NAME = "callboard"
LOOK_SECONDS = 0.1
ASK_SECONDS_MAX = 2.0


class NatsCluster:
    """`cluster.url` names all nodes, by commas. A killed node is started again by `cluster.nodes[n].start()`."""

    def __init__(self, folder: Path, *, size: int = 3, binary: Path | None = None, sync_always: bool = True) -> None:
        """Node `n` keeps its data in `<folder>/<n>`. Its ports are new with each object, so stop all nodes before another."""
        ports = tuple(_distinct_ports(2 * size))
        self.nodes = tuple(
            NatsServer(
                folder / str(number),
                port=ports[size + number - 1],
                binary=binary,
                sync_always=sync_always,
                seat=Seat(NAME, f"{NAME}-{number}", ports[number - 1], ports[:size]),
            )
            for number in range(1, size + 1)
        )
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def node(self, server_name: str) -> NatsServer:
        """The node of that name, as a stream's info names its leader. Raises KeyError."""
        return {node.server_name: node for node in self.nodes}[server_name]

    async def __aenter__(self) -> Self:
        """Raises StackError, and leaves nothing running then."""
        async with AsyncExitStack() as starting:
            begun = (starting.enter_async_context(node) for node in self.nodes)
            for outcome in await asyncio.gather(*begun, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            await self.until_led()
            self._running = starting.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def until_led(self) -> None:
        """Return when all nodes know who leads JetStream. Raises DidNotStart."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        for node in self.nodes:
            while not await asyncio.to_thread(_is_led, node.monitor_url):
                if asyncio.get_running_loop().time() > deadline:
                    raise DidNotStart(node.server_name, f"found no leader in {START_SECONDS_MAX:.0f} s", node.log_path)
                await asyncio.sleep(LOOK_SECONDS)


def _is_led(monitor_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{monitor_url}/jsz", timeout=ASK_SECONDS_MAX) as answer:  # noqa: S310 - our own loopback
            info: object = json.loads(answer.read())
    except (OSError, ValueError):
        return False
    meta = cast("dict[str, object]", info).get("meta_cluster") if isinstance(info, dict) else None
    return isinstance(meta, dict) and bool(cast("dict[str, object]", meta).get("leader"))


def _distinct_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
