"""The open dead letters of a workspace: what is closed is not kept, and only what is new is read."""

from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, letter_address
from events.envelope import Entry, Record
from events.fact import Fact
from events.memory import MemoryLog
from gateway.open_letters import OpenLetters

LETTERS = [letter_address("acme", number) for number in range(3)]
RECORDED = DeadLetterRecorded(source="command", code="bad_body", reason="no JSON")
PURGED = DeadLetterPurged(by="ann")


class Counting(MemoryLog):
    """A log that counts what it is asked for."""

    read = 0

    async def page(self, scope: str, *, after: int = 0, limit: int = 1000) -> list[Record]:
        found = await super().page(scope, after=after, limit=limit)
        self.read += len(found)
        return found


async def put(log: MemoryLog, number: int, *facts: Fact) -> None:
    address = LETTERS[number]
    before = await log.load(address.fence)
    last = before[-1].seq if before else 0
    for version, fact in enumerate(facts, len(before) + 1):
        entry = Entry(
            address=address,
            to="-",
            fact=fact,
            id=f"evt_{number}_{version}",
            time_ms=1_790_000_000_000,
            causation="",
            version=version,
            engine="test",
        )
        last = await log.append(entry, expected=last)


async def test_closed_letters_are_forgotten_and_what_was_read_is_not_read_again() -> None:
    log = Counting()
    letters = OpenLetters(log)
    await put(log, 0, RECORDED)
    await put(log, 1, RECORDED, PURGED)
    await put(log, 2, RECORDED)
    assert [state.address for state in await letters.of("acme")] == [LETTERS[0], LETTERS[2]]
    assert await letters.of("other") == []
    read = log.read
    assert len(await letters.of("acme")) == 2
    assert log.read == read
    await put(log, 0, PURGED)
    assert [state.address for state in await letters.of("acme")] == [LETTERS[2]]
    assert log.read == read + 1


async def test_a_letter_that_is_recorded_again_is_whole_again() -> None:
    log = MemoryLog()
    letters = OpenLetters(log)
    await put(log, 0, RECORDED, PURGED)
    assert await letters.of("acme") == []
    await put(log, 0, RECORDED)
    (state,) = await letters.of("acme")
    assert (state.status, state.times, state.seen.version) == ("open", 2, 3)
