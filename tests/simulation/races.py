"""Races on one call: humans approve, edit and reject, a cancel comes, its time runs out, and a worker performs what it may.

Each has a mailbox of its own on one log; answers of appends are late or lost. `make approval-races N=10000` plays so many.
"""

import asyncio
import sys
from asyncio import events
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from actors.decider import Advance, Cancel, Command, Refused, TimerFired, timer_command
from actors.mailbox import Mailboxes
from actors.tool import Decide, ToolReturned
from actors.turn import Engine, Turn
from events.envelope import Entry, Record
from events.ids import encode
from events.memory import MemoryLog
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    Decision,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
)
from tests.simulation.loop import Loop, World
from tests.simulation.quiet import silence
from tests.simulation.server import BEGAN_MS

CALL: Final = Address("default", "run_1", "stp_1", "call_1")
EXPIRES_MS: Final = 1000
SETTLED: Final = (ToolCompleted, ToolFailed, ToolCanceled)


class SlowLog(MemoryLog):
    """A log whose requests and answers take their time; a lost answer is asked for again, as the real append does."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def _wait(self) -> None:
        await asyncio.sleep(self.world.random.random() ** 2 * 0.4)

    async def append(self, entry: Entry, *, expected: int) -> int:
        await self._wait()
        seq = await super().append(entry, expected=expected)
        await self._wait()
        if self.world.random.random() < 0.2:
            return await super().append(entry, expected=expected)
        return seq

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        await self._wait()
        return await super().load(scope, after=after, known=known)

    async def last(self, scope: str) -> int:
        await self._wait()
        return await super().last(scope)


class _Clock:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.made = 0

    def now_ms(self) -> int:
        return BEGAN_MS + int(self.world.now * 1000)

    def monotonic(self) -> float:
        return self.world.now

    def new_id(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}_{self.name}{encode(self.made)}"


class _Nothing:
    """An inbox and queues that nobody reads."""

    async def send(self, address: Address, verb: str, body: bytes, *, command_id: str) -> int:
        return 0

    async def schedule(self, address: Address, timer: str, *, at_ms: int, verb: str, body: bytes) -> None:
        pass

    async def remake(self, to: str) -> None:
        pass

    async def ensure(self, to: str) -> None:
        pass

    async def floors(self) -> dict[str, int]:
        return {}


class Race:
    """One race."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.log = SlowLog(self.world)
        self.effects = 0
        self.said: list[str] = []
        self.effect = ("unsafe", "keyed", "read")[int(self.world.random.random() * 3)]

    def play(self) -> list[str]:
        """Play it and return what is broken."""
        self._enter("request", self._request)
        self.world.run(steps_max=10_000, until=60)
        for place, verb in enumerate(("approve", "reject", "edit", "cancel", "expire", "work", "approve")):
            late = self.world.random.random() ** 2 * 2
            if self.world.random.random() < 0.8 or verb in (
                "work",
                "expire",
            ):  # its timer always comes, if nobody else does
                self.world.after(late, self._enter, f"{verb}{place}", getattr(self, f"_{verb}"))
        self.world.run(steps_max=10_000, until=120)
        events._set_running_loop(None)
        return [*self.said, *self.world.faults, *self._judged()]

    def _enter(self, name: str, act: Callable[[Turn, Any], Awaitable[None]]) -> None:
        loop = Loop(self.world, name)
        boxes = Mailboxes(self.log)
        nothing = _Nothing()
        engine = Engine(
            facts=self.log, inbox=nothing, queues=nothing, clock=_Clock(self.world, name), boxes=boxes, name=name
        )
        box = boxes.of(CALL)

        async def main() -> None:
            async with box.turn:
                await box.read_on()
            await act(Turn(engine, box, causation=f"cmd_{name}"), box)

        loop.call_soon(lambda: loop.create_task(main()))

    async def _answer(self, turn: Turn, command: Command) -> None:
        async with turn.box.turn:
            try:
                await turn.decide(command)
            except Refused:
                return

    async def _request(self, turn: Turn, box: Any) -> None:
        fact = ToolRequested(
            tool="launch",
            arguments=msgspec.Raw(b"{}"),
            effect=self.effect,
            owner="agent",
            role="maker",
            approval=True,
            expires_seconds=EXPIRES_MS // 1000,
        )
        await box.append(fact, "tool-local", causation="1", id="evt_1", time_ms=BEGAN_MS, engine="")
        async with box.turn:
            await turn.decide(Advance(id="", now_ms=BEGAN_MS))

    async def _human(self, turn: Turn, decision: Decision) -> None:
        now_ms = turn.engine.clock.now_ms()
        await self._answer(
            turn, Decide(id=turn.causation, now_ms=now_ms, decision=decision, by=turn.causation, arguments=b"{}")
        )

    async def _approve(self, turn: Turn, box: Any) -> None:
        await self._human(turn, "approve")

    async def _reject(self, turn: Turn, box: Any) -> None:
        await self._human(turn, "reject")

    async def _edit(self, turn: Turn, box: Any) -> None:
        await self._human(turn, "edit")

    async def _cancel(self, turn: Turn, box: Any) -> None:
        await self._answer(turn, Cancel(id=turn.causation, now_ms=turn.engine.clock.now_ms(), by="sim"))

    async def _expire(self, turn: Turn, box: Any) -> None:
        asked = box.state.approval
        await asyncio.sleep(max(0.0, asked.request.expires_at / 1000 - BEGAN_MS / 1000 - self.world.now))
        id_ = timer_command("expiry", asked.seq)
        await self._answer(turn, TimerFired(id=id_, now_ms=turn.engine.clock.now_ms(), timer="expiry"))

    async def _work(self, turn: Turn, box: Any) -> None:
        """The holder of the decision's ticket: it performs what the log says it may."""
        for _ in range(20):
            await asyncio.sleep(0.3)
            async with box.turn:
                await box.read_on()
            if box.state.end is not None or box.state.cut_off:
                return
            decision = box.state.approval.decision
            if decision is not None:
                await self._perform(turn, box)
                return

    async def _perform(self, first: Turn, box: Any) -> None:
        ticket = box.state.ticket
        turn = Turn(first.engine, box, notice=ticket, to="tool-local", causation=str(ticket))
        async with box.turn:
            await turn.decide(Advance(id="", now_ms=turn.engine.clock.now_ms(), ticket=ticket))
            request = turn.performable()
        if request is None:
            return
        self._effect()
        await asyncio.sleep(self.world.random.random())
        result = ToolReturned(id="cmd_result", now_ms=turn.engine.clock.now_ms(), epoch=request.epoch, text="done")
        async with box.turn:
            await box.read_on()
            await turn.decide(result)

    def _effect(self) -> None:
        self.effects += 1
        facts = [stored.record.fact for stored in self.log._all]
        if not any(isinstance(fact, ApprovalDecided) and fact.decision in ("approve", "edit") for fact in facts):
            self.said.append("an effect without an approval")
        first = next((fact for fact in facts if isinstance(fact, ToolCanceled | ToolStarted)), None)
        if isinstance(first, ToolCanceled) and self.effect != "read":
            self.said.append("an effect that began after the cancel")

    def _judged(self) -> list[str]:
        facts = [stored.record.fact for stored in self.log._all]
        decisions = [fact for fact in facts if isinstance(fact, ApprovalDecided | ApprovalExpired)]
        ends = [fact for fact in facts if isinstance(fact, SETTLED)]
        broken: list[str] = []
        if len(decisions) > 1:
            broken.append(f"{len(decisions)} decisions on one call")
        if len(ends) > 1:
            broken.append(f"{len(ends)} ends of one call")
        if not ends and not any(isinstance(fact, ToolOutcomeUnknown) for fact in facts):
            broken.append("the call never ended")
        if self.effects > 1:
            broken.append(f"{self.effects} effects of one call")
        started = [place for place, fact in enumerate(facts) if isinstance(fact, ToolStarted)]
        ended = [place for place, fact in enumerate(facts) if isinstance(fact, SETTLED)]
        if started and ended and started[-1] > ended[0]:
            broken.append("begun after its end")
        return broken if any(isinstance(fact, ApprovalRequested) for fact in facts) else ["nobody was asked"]


def main(count: int) -> int:
    """Play `count` races; return 1 if anything broke."""
    silence()
    failed = 0
    for seed in range(1, count + 1):
        if broken := Race(seed).play():
            failed += 1
            print(f"race {seed}: {'; '.join(broken)}")
    print(
        f"{count:,} races of approve, reject, edit, cancel and expire on one call: {failed} with more than one decision or effect"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
