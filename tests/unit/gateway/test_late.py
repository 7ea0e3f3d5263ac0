"""A replica that is late says there is nothing; the door asks the leader before it believes that."""

from events.envelope import Record
from events.memory import MemoryLog
from events.run import RunStarted
from gateway.late import all_records, last_record
from tests.history import History


class Late(MemoryLog):
    """A log whose replica lacks everything for the first few looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    async def peek(self, scope: str) -> Record | None:
        self.looks -= 1
        return None if self.looks >= 0 else await super().peek(scope)

    async def load(self, scope: str, *, after: int = 0, known: int = 1) -> list[Record]:
        """Show one record more at each look, once there is any."""
        self.looks -= 1
        there = await super().load(scope, after=after, known=known)
        return [] if self.looks >= 0 else there[:1]

    async def last(self, scope: str) -> int:
        leader = await super().peek(scope)
        return leader.seq if leader else 0


async def test_what_only_a_late_replica_lacks_is_found() -> None:
    history = History("run_1")
    stored = history.run(RunStarted())
    log = Late(looks=3)
    await history.pour(log)
    found = await last_record(log, stored.address.fence)
    assert found is not None
    assert found.seq == stored.seq


async def test_what_the_leader_lacks_too_is_not_there() -> None:
    log = Late(looks=3)
    assert await last_record(log, History("run_1").address.fence) is None
    assert log.looks == 2


async def test_all_records_are_read_until_the_last_of_the_leader_whichever_replica_answers() -> None:
    history = History("run_1")
    stored = [history.run(RunStarted()) for _ in range(3)]
    log = Late(looks=2)
    await history.pour(log)
    found = await all_records(log, stored[0].address.fence)
    assert [record.seq for record in found] == [record.seq for record in stored]
    assert await all_records(log, History("run_2").address.fence) == []
