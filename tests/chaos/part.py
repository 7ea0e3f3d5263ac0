"""One process of the installation under chaos: started again whenever it ends, for whatever reason, as a supervisor would."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from deploy.process import child_environment
from tests.chaos.proxies import Proxies

REPOSITORY = Path(__file__).parents[2]
AGAIN_SECONDS = 0.3
STOP_SECONDS_MAX = 25


class Life(msgspec.Struct):
    """One start of a part: its pid, when it began and when it was killed or ended (ms since the epoch, 0: not yet)."""

    part: str
    pid: int
    began_ms: int
    ended_ms: int = 0
    killed: bool = False


class Part:
    """`keep` runs it until `leave`. `proxies` stand between it and the servers."""

    def __init__(
        self, name: str, verb: str, *, environment: dict[str, str], folder: Path, proxies: Proxies, now: Any
    ) -> None:
        self.name = name
        self.verb = verb
        self.environment = environment
        self.log = folder / f"{name}.log"
        self.proxies = proxies
        self.now = now
        self.lives: list[Life] = []
        self.own_ends: Counter[int] = Counter()
        """How often it ended without being killed, by exit code."""
        self.paused = False
        self.process: asyncio.subprocess.Process | None = None
        self._leaving = False

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def was_ready(self) -> bool:
        """Whether it said once that it is ready."""
        return self.log.exists() and b'_ready"' in self.log.read_bytes()

    async def keep(self) -> None:
        """Run it, again and again."""
        while not self._leaving:
            with self.log.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    "import sys; from gateway.cli import main; sys.exit(main())",
                    self.verb,
                    env={**child_environment(), **self.environment},
                    cwd=REPOSITORY,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            life = Life(self.name, self.process.pid, self.now())
            self.lives.append(life)
            code = await self.process.wait()
            life.ended_ms = life.ended_ms or self.now()
            self.paused = False
            if not life.killed and not self._leaving:
                self.own_ends[code] += 1
            await asyncio.sleep(AGAIN_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        life = self.lives[-1]
        life.killed, life.ended_ms = True, self.now()
        self.process.kill()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def wake(self) -> None:
        if self.is_up and self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    async def leave(self) -> None:
        """Ask it to end for good."""
        self._leaving = True
        if self.process is None or not self.is_up:
            return
        self.wake()
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS_MAX)
        except TimeoutError:
            self.own_ends[-1] += 1  # it did not end when asked to
            self.process.kill()
