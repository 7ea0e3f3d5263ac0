"""A turn beside another worker's on the same message, on the log in memory."""

from typing import Any

from actors.decider import Advance, Create, Schedule
from actors.mailbox import Mailboxes
from actors.run import StartRun
from actors.turn import Engine, Turn
from events.clock import SystemClock
from events.memory import MemoryLog
from events.plan import Plan
from events.run import RunRequested
from tests.unit.actors.scenario import NOW
from tests.unit.actors.scenario import RUN as ADDRESS
from tests.unit.actors.test_run import ROLES, step


class NoQueues:
    """A run's first turn addresses nobody by a fact of its own."""

    async def ensure(self, to: str) -> None:
        assert to == "run"

    async def remake(self, to: str) -> None:
        raise AssertionError(to)

    async def floors(self) -> dict[str, int]:
        return {}


class NoInbox:
    """Nothing is sent before the hand-overs are made."""

    async def send(self, *_: Any, **__: Any) -> int:
        raise AssertionError

    async def schedule(self, *_: Any, **__: Any) -> None:
        raise AssertionError


def engine(log: MemoryLog, name: str) -> Engine:
    return Engine(facts=log, inbox=NoInbox(), queues=NoQueues(), clock=SystemClock(), boxes=Mailboxes(log), name=name)


def turn(one: Engine, *, notice: int) -> Turn:
    return Turn(one, one.boxes.of(ADDRESS), notice=notice, to="run" if notice else "", causation=str(notice or "cmd_s"))


async def test_who_met_the_facts_of_another_that_had_the_same_message_makes_its_hand_overs_too() -> None:
    log = MemoryLog()
    request = RunRequested(goal="build it", roles=ROLES, tools={}, model="m", plan=Plan(steps=(step("a"),)))
    await turn(engine(log, "door"), notice=0).answer(StartRun(id="cmd_s", now_ms=NOW, request=request))
    first = turn(engine(log, "first"), notice=1)
    await first.box.read_on()
    assert await first.answer(Advance(id="1", now_ms=NOW, ticket=1))
    second = turn(engine(log, "second"), notice=1)
    await second.box.read_on()
    await second.go_on()  # and it dies before it hands anything over
    assert len(second.unmade(everything=False)) == 2
    await first.go_on()
    assert [record.version for record in first.appended] == [2]
    assert [type(one) for one in first.unmade(everything=False)] == [Schedule, Create]
