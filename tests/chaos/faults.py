"""What goes wrong, from a seed: every 0.5 to 3 s one fault, and what it broke is mended a while later."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deploy.errors import StackError
from deploy.nats_server import NatsServer
from deploy.server import Server
from events.clock import SystemClock
from tests.chaos.part import Part
from tests.chaos.stage import Stage
from tests.integration.tcp_proxy import TcpProxy

PAUSE_SECONDS = (0.5, 3.0)
NODE_EVERY_SECONDS = 20.0
WEIGHTS = {
    "kill worker": 22,
    "stop worker": 13,
    "kill gateway": 8,
    "stop gateway": 4,
    "kill projector": 6,
    "stop projector": 3,
    "kill postgres": 4,
    "stop postgres": 3,
    "cut nats": 14,
    "hold nats": 7,
    "cut postgres": 6,
    "kill node": 2,
    "stop node": 2,
}


class Fault(msgspec.Struct, frozen=True):
    """What happened to whom, from when to when (ms since the epoch)."""

    kind: str
    victim: str
    began_ms: int
    ended_ms: int


class Faults:
    """`run` makes faults until it is cancelled; `mended` waits until all are over."""

    def __init__(self, stage: Stage, seed: int, *, only: Sequence[str] = ()) -> None:
        """With `only`, of these kinds alone."""
        self.stage = stage
        self.weights = {kind: weight for kind, weight in WEIGHTS.items() if not only or kind in only}
        self.dice = random.Random(seed)
        self.made: list[Fault] = []
        self._now = SystemClock().now_ms
        self._busy: set[str] = set()
        self._node_at = -NODE_EVERY_SECONDS
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counter[str]:
        return Counter(fault.kind for fault in self.made)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self.dice.uniform(*PAUSE_SECONDS)
            await asyncio.sleep(max(0.0, due - loop.time()))
            kind = self._choice()
            if kind is None:
                continue
            task = asyncio.create_task(self._make(kind, self.dice.choice(self._victims(kind))), name=kind)
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def mended(self) -> None:
        """Return when nothing is broken any more. Raises what a server's restart raised."""
        while self._under_way:
            await asyncio.gather(*self._under_way)

    def _choice(self) -> str | None:
        """Choose a kind that somebody can be hit by now."""
        able = {kind: weight for kind, weight in self.weights.items() if self._victims(kind)}
        return self.dice.choices(list(able), list(able.values()))[0] if able else None

    def _victims(self, kind: str) -> list[str]:
        verb, _, noun = kind.partition(" ")
        parts = self.stage.parts
        match verb, noun:
            case _, ("worker" | "gateway" | "projector"):
                return [
                    name
                    for name, part in parts.items()
                    if name.startswith(noun) and part.is_up and not part.paused and name not in self._busy
                ]
            case (("cut" | "hold"), _):
                return [name for name in parts if name not in self._busy and (noun == "nats" or "worker" not in name)]
            case _, "postgres":
                return [self.stage.postgres.name] if self.stage.postgres.name not in self._busy else []
            case _:
                recent = asyncio.get_running_loop().time() - self._node_at < NODE_EVERY_SECONDS
                names = [node.server_name for node in self.stage.nats.nodes]
                return [] if recent or self._busy & set(names) else names

    async def _make(self, kind: str, victim: str) -> None:
        verb, _, noun = kind.partition(" ")
        match verb, noun:
            case (("kill" | "stop"), ("worker" | "gateway" | "projector")):
                await self._part(kind, verb, self.stage.parts[victim])
            case (("cut" | "hold"), _):
                await self._wires(kind, verb, self.stage.parts[victim])
            case _, "postgres":
                act = self._kill if verb == "kill" else self._stop
                await self._hold(kind, victim, lambda: act(self.stage.postgres))
            case _:
                await self._node(kind, self._kill if verb == "kill" else self._stop, self.stage.nats.node(victim))

    async def _part(self, kind: str, verb: str, part: Part) -> None:
        if verb == "kill":
            part.kill()
            self._note(kind, part.name, self._now())
            return
        seconds = self.dice.uniform(1, 20) if part in self.stage.workers else self.dice.uniform(1, 8)

        async def stop() -> None:
            part.pause()
            await asyncio.sleep(seconds)
            part.wake()

        await self._hold(kind, part.name, stop)

    async def _wires(self, kind: str, verb: str, part: Part) -> None:
        wires: Sequence[TcpProxy] = part.proxies.nats if kind.endswith("nats") else [part.proxies.postgres]
        if verb == "cut":
            part.proxies.cut(wires)
            self._note(kind, part.name, self._now())
            return
        seconds = self.dice.uniform(1, 15)
        await self._hold(kind, part.name, lambda: part.proxies.hold(wires, seconds))

    async def _node(self, kind: str, act: Callable[[Server], Awaitable[None]], node: NatsServer) -> None:
        self._node_at = asyncio.get_running_loop().time()
        await self._hold(kind, node.server_name, lambda: act(node))

    async def _kill(self, server: Server) -> None:
        server.kill()
        await asyncio.sleep(self.dice.uniform(0.2, 4))
        while True:
            with suppress(StackError):
                return await server.start()
            await asyncio.sleep(0.2)

    async def _stop(self, server: Server) -> None:
        pids = [server.pid, *children(server.pid)]
        send(pids, signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(1, 10))
        send(pids, signal.SIGCONT)

    async def _hold(self, kind: str, victim: str, act: Callable[[], Awaitable[None]]) -> None:
        began = self._now()
        self._busy.add(victim)
        try:
            await act()
        finally:
            self._busy.discard(victim)
            self._note(kind, victim, began)

    def _note(self, kind: str, victim: str, began_ms: int) -> None:
        self.made.append(Fault(kind, victim, began_ms, self._now()))


def children(pid: int) -> list[int]:
    """Return the child processes of a process, as Linux lists them."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
