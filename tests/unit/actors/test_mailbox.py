"""The mailboxes of a process stay within their bytes, and an actor has one."""

from actors.mailbox import Mailbox, Mailboxes
from actors.run import StartRun
from actors.run_state import RunState
from events.memory import MemoryLog
from events.plan import Plan
from events.run import RunRequested
from events.subjects import Address
from tests.unit.actors.scenario import NOW
from tests.unit.actors.test_run import ROLES, step

GOAL = "x" * 10_000
RUNS = [Address("default", f"run_{number}") for number in range(20)]


async def begin(boxes: Mailboxes, address: Address) -> Mailbox[RunState]:
    box = boxes.of(address)
    request = RunRequested(goal=GOAL, roles=ROLES, tools={}, model="m", plan=Plan(steps=(step("a"),)))
    (fact,) = box.decider.decide(box.state, StartRun(id="cmd_s", now_ms=NOW, request=request))
    await box.append(fact, "run", causation="cmd_s", id=f"evt_{address.run}", time_ms=NOW, engine="test")
    return box


async def test_states_are_dropped_the_least_recently_used_first_when_they_take_too_much() -> None:
    boxes = Mailboxes(MemoryLog(), bytes_max=10 * 2 * len(GOAL))
    for address in RUNS:
        await begin(boxes, address)
        assert boxes.of(RUNS[0]).state.request is not None  # used again and again, it stays
        assert boxes.bytes <= boxes.bytes_max
    kept = [box.address for box in boxes]
    assert set(kept) == {RUNS[0], *RUNS[-len(kept) + 1 :]}
    assert 5 < len(kept) < 10
    dropped = boxes.of(RUNS[1])
    assert dropped.state.request is None
    await dropped.read_on()
    assert dropped.state.request is not None
    boxes.clear()
    assert boxes.bytes == 0


async def test_an_actor_whose_state_was_dropped_while_somebody_held_it_is_not_made_twice() -> None:
    boxes = Mailboxes(MemoryLog(), bytes_max=3 * 2 * len(GOAL))
    held = await begin(boxes, RUNS[0])
    for address in RUNS[1:]:
        await begin(boxes, address)
    assert held not in list(boxes)
    assert boxes.of(RUNS[0]) is held
    assert held in list(boxes)
