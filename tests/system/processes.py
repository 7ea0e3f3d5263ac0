"""Callboard as an operator runs it: nats-server, Postgres, workers, a gateway and a projector, each a process to be killed."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from deploy.nats_server import NatsServer
from deploy.ports import free_port
from deploy.postgres import Postgres

READY_SECONDS = 30
DEMO = Path(__file__).parents[2] / "gateway/blueprints/software/demo/cassette.yaml"


class Process:
    """One `callboard` process, its output in a file; it may be killed and started again."""

    def __init__(self, name: str, *arguments: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.arguments = arguments
        self.environment = environment
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0

    async def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        before = self._ready_lines()
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "import sys; from gateway.cli import main; sys.exit(main())",
                *self.arguments,
                env=self.environment,
                cwd=Path(__file__).parents[2],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.starts += 1
        async with asyncio.timeout(READY_SECONDS):
            while self._ready_lines() <= before:
                if self.process.returncode is not None:
                    raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
                await asyncio.sleep(0.02)  # a file has no event to wait for

    def _ready_lines(self) -> int:
        return self.log.read_text(errors="replace").count('_ready"') if self.log.exists() else 0

    def tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process is None or self.process.returncode is not None:
            return self.process.returncode or 0 if self.process else 0
        self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), 20)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"{self.name} did not end within 20 s of SIGTERM:\n{self.tail()}") from None


class House:
    """All processes of one installation."""

    def __init__(self, nats: NatsServer, postgres: Postgres, processes: dict[str, Process], api: str) -> None:
        self.nats = nats
        self.postgres = postgres
        self.processes = processes
        self.api = api

    async def kill(self, name: str) -> None:
        """Kill one of them, servers included, and start it again."""
        if name == "nats":
            self.nats.kill()
            await self.nats.start()
        elif name == "postgres":
            self.postgres.kill()
            await self.postgres.start()
        else:
            await self.processes[name].kill()
            await self.processes[name].start()

    async def create_run(self, **body: object) -> str:
        """Start a run over HTTP and return its id; a gateway that is being restarted is asked again."""
        key = hashlib.sha256(str(body).encode()).hexdigest()
        async with (
            asyncio.timeout(READY_SECONDS),
            httpx2.AsyncClient(base_url=self.api, timeout=10, trust_env=False) as client,
        ):
            while True:
                try:
                    answer = await client.post("/v1/runs", json=body, headers={"Idempotency-Key": key})
                except httpx2.TransportError:
                    await asyncio.sleep(0.05)  # nobody listens; there is no event to wait for
                    continue
                if answer.status_code not in (409, 503):
                    assert answer.status_code == 202, answer.text
                    return str(answer.json()["id"])
                await asyncio.sleep(float(answer.headers["Retry-After"]))


def environment(home: Path, *, nats: str, database: str, port: int, **more: str) -> dict[str, str]:
    """Return the environment of a process of the house."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251 -- what a shell gives
    return kept | {
        "CALLBOARD_NATS_URL": nats,
        "CALLBOARD_DATABASE_URL": database,
        "CALLBOARD_HOME": str(home),
        "CALLBOARD_PORT": str(port),
        "CALLBOARD_LOG_FORMAT": "json",
        **more,
    }


@asynccontextmanager
async def house(folder: Path, *, settings: dict[str, str], workers: int = 1) -> AsyncGenerator[House]:
    """Start everything; at the end each process is asked to stop and must do so."""
    async with (
        NatsServer(folder / "nats", sync_always=False) as nats,
        Postgres(folder / "postgres", durable=False) as postgres,
    ):
        port = free_port()
        given = environment(folder / "home", nats=nats.url, database=postgres.url, port=port, **settings)
        names = {f"worker-{n}": ("worker",) for n in range(1, workers + 1)} | {
            "gateway": ("gateway",),
            "projector": ("projector",),
        }
        processes = {
            name: Process(name, *arguments, environment=given, log=folder / f"{name}.log")
            for name, arguments in names.items()
        }
        try:
            await asyncio.gather(*(process.start() for process in processes.values()))
            yield House(nats, postgres, processes, f"http://127.0.0.1:{port}")
        finally:
            await asyncio.gather(*(process.stop() for process in processes.values()))
