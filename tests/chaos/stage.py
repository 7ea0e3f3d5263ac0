"""The whole installation on loopback: three NATS nodes, Postgres, workers, a gateway, a projector, and the target beside them."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from deploy.nats_cluster import NatsCluster
from deploy.ports import free_port
from deploy.postgres import Postgres
from deploy.postgres_cluster import SOCKET_NAME
from deploy.process import becomes_true, child_environment
from events.clock import SystemClock
from tests.chaos import script
from tests.chaos.part import REPOSITORY, Part
from tests.chaos.proxies import proxies
from tests.chaos.tools import NAMES

WORKERS = 3
READY_SECONDS_MAX = 60


class Stage:
    """What faults hit and the load talks to."""

    def __init__(
        self, folder: Path, nats: NatsCluster, postgres: Postgres, *, parts: dict[str, Part], api: str, target_port: int
    ) -> None:
        self.folder = folder
        self.target_port = target_port
        self.nats = nats
        self.postgres = postgres
        self.parts = parts
        self.api = api
        self.ledger = folder / "target.jsonl"

    @property
    def workers(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name.startswith("worker")]

    async def until_ready(self) -> None:
        """Return when each process said once that it is ready."""
        for part in self.parts.values():
            if not await becomes_true(part.was_ready, within_seconds=READY_SECONDS_MAX):
                raise AssertionError(f"{part.name} was not ready in {READY_SECONDS_MAX} s; see {part.log}")


@asynccontextmanager
async def stage(
    folder: Path, *, workers: int = WORKERS, sync_always: bool = True, settings: dict[str, str] | None = None
) -> AsyncGenerator[Stage]:
    """Start everything; at the end all processes are asked to stop."""
    async with AsyncExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        nats = await stack.enter_async_context(NatsCluster(folder / "nats", sync_always=sync_always))
        postgres = await stack.enter_async_context(Postgres(folder / "postgres", durable=sync_always))
        target_port = await stack.enter_async_context(target(folder / "target.jsonl"))
        (folder / "cassette.yaml").write_text(yaml.safe_dump(script.cassette(target_port)))
        port = free_port()
        common = _environment(folder, port) | (settings or {})
        names = {f"worker-{n}": "worker" for n in range(1, workers + 1)} | {
            "gateway": "gateway",
            "projector": "projector",
        }
        parts: dict[str, Part] = {}
        for name, verb in names.items():
            wires = await stack.enter_async_context(proxies([node.port for node in nats.nodes], _socket_of(postgres)))
            urls = {"CALLBOARD_NATS_URL": wires.nats_url, "CALLBOARD_DATABASE_URL": wires.database_url}
            parts[name] = Part(
                name, verb, environment=common | urls, folder=folder, proxies=wires, now=SystemClock().now_ms
            )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        keeping = [group.create_task(part.keep()) for part in parts.values()]
        found = Stage(folder, nats, postgres, parts=parts, api=f"http://127.0.0.1:{port}", target_port=target_port)
        try:
            await found.until_ready()
            yield found
        finally:
            await asyncio.gather(*(part.leave() for part in parts.values()))
            await asyncio.wait(keeping)


def _socket_of(postgres: Postgres) -> str:
    """Return the socket's path as clients know it: a deep folder has a short way to it."""
    (folder,) = parse_qs(urlsplit(postgres.url).query)["host"]
    return f"{folder}/{SOCKET_NAME}"


def _environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "CALLBOARD_REPLICAS": "3",
        "CALLBOARD_HOME": str(folder / "home"),
        "CALLBOARD_PORT": str(port),
        "CALLBOARD_CASSETTE": str(folder / "cassette.yaml"),
        "CALLBOARD_TOOLS": ",".join(NAMES),
        "CALLBOARD_DRAIN_SECONDS": "5",
    }


@asynccontextmanager
async def target(ledger: Path) -> AsyncGenerator[int]:
    """Run the target; yields its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.target",
        str(port),
        str(ledger),
        env=child_environment(),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield port
    finally:
        process.kill()
        await process.wait()
