"""Commands that race on one run in several workers: whatever the order, it ends once, and nothing stands behind its end."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from actors.child import ChildDone, Outcome
from actors.decider import Advance, Cancel, Command, Pause, Refused, Resume, Terminate, TimerFired, fold
from actors.mailbox import Mailbox, Mailboxes
from actors.run import CANCEL_TIMER, RUN, StartRun
from actors.run_children import Spawn
from actors.run_results import AgentEnded
from actors.turn import Engine, Turn
from events.agent import AgentCanceled, AgentSucceeded
from events.clock import SystemClock
from events.envelope import Entry, Record
from events.memory import MemoryLog
from events.plan import Plan
from events.run import Parent, RunEnd, RunRequested
from events.subjects import Address
from tests.unit.actors.scenario import NOW, names
from tests.unit.actors.scenario import RUN as ADDRESS
from tests.unit.actors.test_run import ROLES, step

WORKERS = 3


class Elsewhere:
    """An inbox and work queues whose readers are the test."""

    async def send(self, address: Address, verb: str, body: bytes, *, command_id: str) -> int:
        return 0

    async def schedule(self, address: Address, timer: str, *, at_ms: int, verb: str, body: bytes) -> None: ...

    async def remake(self, to: str) -> None: ...

    async def ensure(self, to: str) -> None: ...

    async def floors(self) -> dict[str, int]:
        return {}


class SlowLog(MemoryLog):
    """A log whose every answer takes a while, so that others come between reading and appending."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.chance = chance

    async def append(self, entry: Entry, *, expected: int) -> int:
        await pause(self.chance)
        seq = await super().append(entry, expected=expected)
        await pause(self.chance)
        return seq

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        await pause(self.chance)
        return await super().load(scope, after=after, known=known)


async def pause(chance: Random) -> None:
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)


class Race:
    """One run, and workers that each know it by a mailbox of their own."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.log = SlowLog(self.chance)
        self.engines = [self._engine(number) for number in range(WORKERS)]
        self.refused: list[str] = []

    def _engine(self, number: int) -> Engine:
        away, clock = Elsewhere(), SystemClock()
        return Engine(
            facts=self.log, inbox=away, queues=away, clock=clock, boxes=Mailboxes(self.log), name=f"worker {number}"
        )

    async def tell(self, command: Command) -> None:
        """Let any worker take a command up."""
        engine = self.chance.choice(self.engines)
        box: Mailbox[Any] = engine.boxes.of(ADDRESS)
        turn = Turn(engine, box, causation=command.id)
        await pause(self.chance)
        async with box.turn:
            await box.read_on()
            try:
                await turn.decide(command)
            except Refused as refused:
                self.refused.append(refused.code)

    async def facts(self) -> list[Record]:
        return await MemoryLog.load(self.log, ADDRESS.fence)

    async def check(self) -> list[str]:
        """Return the types of all facts, after I1 and I4 were found to hold and all workers to know the same."""
        records = await self.facts()
        ends = [place for place, record in enumerate(records) if isinstance(record.fact, RunEnd)]
        assert [record.version for record in records] == list(range(1, len(records) + 1))
        assert len(ends) <= 1
        assert not ends or ends[0] == len(records) - 1, names([record.fact for record in records])
        whole = fold(RUN, ADDRESS, records)
        for engine in self.engines:
            box: Mailbox[Any] = engine.boxes.of(ADDRESS)
            await box.read_on()
            assert box.state == whole
        return names([record.fact for record in records])


def start() -> StartRun:
    plan = Plan(steps=(step("a"), step("b"), step("c", "a", "b")))
    request = RunRequested(goal="g", roles=ROLES, tools={}, model="m", plan=plan)
    return StartRun(id="cmd_start", now_ms=NOW, request=request)


def ended(race_: Race, key: str, state: Any, *, canceled: bool = False) -> AgentEnded:
    del race_
    end = AgentCanceled(by="ann") if canceled else AgentSucceeded(summary=f"{key} done")
    seq = 1_000 + ord(key)
    return AgentEnded(id=f"cmd_end-{key}", now_ms=NOW, actor=state.steps[key].actor, seq=seq, end=end)


Stops = tuple[Callable[[int], Command], ...]
STOPS: Stops = (
    lambda number: Cancel(id=f"cmd_cancel-{number}", now_ms=NOW, by="ann"),
    lambda number: Terminate(id=f"cmd_terminate-{number}", now_ms=NOW, by="bob"),
    lambda number: Pause(id=f"cmd_pause-{number}", now_ms=NOW, by="cy"),
    lambda number: Resume(id=f"cmd_resume-{number}", now_ms=NOW, by="cy"),
    lambda number: TimerFired(id=f"cmd_timer-{number}", now_ms=NOW, timer=CANCEL_TIMER),
    lambda number: Advance(id=f"cmd_go-{number}", now_ms=NOW),
)


async def state_of(race_: Race) -> Any:
    return fold(RUN, ADDRESS, await race_.facts())


@pytest.mark.parametrize("block", range(10))
async def test_stops_pauses_and_results_that_race_leave_one_end(block: int) -> None:
    """Twenty seeds a block. What was not decided by the race is decided after it: every run ends, once."""
    ends: set[str] = set()
    for seed in range(block * 20, block * 20 + 20):
        race_ = Race(seed)
        await race_.tell(start())
        chosen = [race_.chance.choice(STOPS)(number) for number in range(race_.chance.randrange(1, 7))]
        state = await state_of(race_)
        results = [ended(race_, key, state) for key in ("a", "b")]
        commands = [*chosen, *results, *(race_.chance.choice(results) for _ in range(2))]
        race_.chance.shuffle(commands)
        await asyncio.gather(*(race_.tell(command) for command in commands))
        await race_.check()
        ends.add(await finish(race_))
    assert ends <= {"run.succeeded", "run.canceled"}


async def finish(race_: Race) -> str:
    """Let the run go on and its agents end, as its workers would; return its end."""
    await race_.tell(Resume(id="cmd_at-last", now_ms=NOW, by="cy"))
    for _ in range(5):
        state = await state_of(race_)
        if state.end is not None:
            break
        stopping = state.cancel is not None
        results = [ended(race_, one.spec.id, state, canceled=stopping) for one in state.open_steps()]
        await asyncio.gather(*(race_.tell(result) for result in results))
        await race_.tell(Advance(id="", now_ms=NOW))
    said = await race_.check()
    assert isinstance((await state_of(race_)).end, RunEnd), said
    return said[-1]


async def test_both_ends_come_out_of_the_same_race() -> None:
    """The race is one: with the seeds used here a run sometimes succeeds before its cancel, and sometimes not."""
    ends: list[str] = []
    for seed in range(60):
        race_ = Race(seed)
        await race_.tell(start())
        state = await state_of(race_)
        for key in ("a", "b"):
            await race_.tell(ended(race_, key, state))
        last = ended(race_, "c", await state_of(race_))
        await asyncio.gather(race_.tell(last), race_.tell(STOPS[1](1)))
        ends.append((await race_.check())[-1])
    assert {"run.succeeded", "run.canceled"} == set(ends)


@pytest.mark.parametrize("block", range(5))
async def test_runs_begun_under_a_run_while_it_stops_are_all_known_to_it_or_refused(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        race_ = Race(seed)
        await race_.tell(start())
        state = await state_of(race_)
        request = start().request
        below = Parent(run=ADDRESS.run, depth=1)
        spawns = [
            Spawn(id=f"cmd_spawn-{number}", now_ms=NOW, child=f"run_{number % 3}", request=request)
            for number in range(4)
        ]
        outcome = Outcome(parent=below, seq=9, status="succeeded", goal="g")
        told = [ChildDone(id=f"cmd_done-{one}", now_ms=NOW, child=f"run_{one}", outcome=outcome) for one in range(3)]
        stop = race_.chance.choice(STOPS[:2])(0)
        results = [ended(race_, key, state) for key in ("a", "b")]
        await asyncio.gather(*(race_.tell(command) for command in (*spawns, stop, *results)))
        said = await race_.check()
        asked = said.count("run.child_requested")
        assert asked + len(race_.refused) >= 3
        await asyncio.gather(*(race_.tell(word) for word in (*told, *told)))
        await finish(race_)
        state = await state_of(race_)
        assert not state.open_children() or "run.canceled" in said
