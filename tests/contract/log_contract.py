"""What every form of the log must do: a new form is a subclass with a `log` fixture."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from events import codec
from events.agent import ModelRequested
from events.envelope import Entry, Record
from events.fact import Fact
from events.ids import InvalidToken
from events.log import FACT_BYTES_MAX, Conflict, Log, TooLarge
from events.run import RunStarted, RunSucceeded, TimerSet
from events.subjects import Address, call_anywhere, run_scope, workspace_scope
from events.tool import ToolCompleted

RUN = Address("acme", "run_1")
AGENT = RUN.at("s1")
CALL = RUN.at("s1", "call_1")

STARTED = RunStarted()


def entry(address: Address, version: int, fact: Fact = STARTED, *, to: str = "-", name: str = "") -> Entry:
    return Entry(
        address=address,
        to=to,
        fact=fact,
        id=name or f"evt_{address}_{version}",
        time_ms=1_700_000_000_123,
        causation="cmd_1",
        version=version,
        engine="0.1.0 test",
    )


async def grow(log: Log, address: Address, count: int, *, to: str = "-") -> list[int]:
    """Append `count` facts to a new actor and return their sequences."""
    seqs: list[int] = []
    for version in range(1, count + 1):
        seqs.append(await log.append(entry(address, version, to=to), expected=seqs[-1] if seqs else 0))
    return seqs


async def take(tail: AsyncIterator[list[Record]], count: int) -> list[Record]:
    """Read the next `count` records of a tail, and not one more."""
    records: list[Record] = []
    while len(records) < count:
        records += await anext(tail)
    assert len(records) == count
    return records


def seqs_of(records: list[Record]) -> list[int]:
    return [record.seq for record in records]


class LogContract:
    """Run against each form."""

    async def test_what_was_appended_is_read_back_whole(self, log: Log) -> None:
        fact = TimerSet(timer="watch", at=1_800_000_000_000, purpose="nudge\nüber 'quotes'")
        seq = await log.append(entry(RUN, 1, fact, to="run", name="evt_1"), expected=0)

        assert await log.load(RUN.scope) == [
            Record(
                seq=seq,
                address=RUN,
                to="run",
                fact=fact,
                id="evt_1",
                time_ms=1_700_000_000_123,
                causation="cmd_1",
                version=1,
                body=codec.encode(fact),
                engine="0.1.0 test",
            )
        ]

    async def test_sequences_grow_and_are_counted_over_all_actors(self, log: Log) -> None:
        seqs = [*await grow(log, RUN, 3), *await grow(log, CALL, 2)]
        assert seqs == [1, 2, 3, 4, 5]
        assert await log.end() == 5

    async def test_an_empty_log_has_no_last_and_no_end(self, log: Log) -> None:
        assert await log.end() == 0
        assert await log.last(RUN.fence) == 0
        assert await log.peek(RUN.fence) is None
        assert await log.load(workspace_scope("acme")) == []
        assert await log.page(workspace_scope("acme")) == []

    async def test_an_append_based_on_an_old_sequence_conflicts_and_names_the_last(self, log: Log) -> None:
        first = await log.append(entry(RUN, 1), expected=0)
        second = await log.append(entry(RUN, 2), expected=first)

        with pytest.raises(Conflict) as conflict:
            await log.append(entry(RUN, 2, name="evt_other"), expected=first)

        assert conflict.value.last == second
        assert seqs_of(await log.load(RUN.scope)) == [first, second]

    async def test_creating_an_actor_twice_conflicts(self, log: Log) -> None:
        seq = await log.append(entry(CALL, 1), expected=0)
        with pytest.raises(Conflict) as conflict:
            await log.append(entry(CALL, 1, name="evt_other"), expected=0)
        assert conflict.value.last == seq

    async def test_an_append_based_on_a_sequence_that_never_was_conflicts(self, log: Log) -> None:
        with pytest.raises(Conflict):
            await log.append(entry(RUN, 1), expected=7)
        assert await log.end() == 0

    async def test_the_same_entry_again_is_stored_once_and_told_its_sequence(self, log: Log) -> None:
        first = await log.append(entry(RUN, 1), expected=0)
        await log.append(entry(RUN, 2), expected=first)

        assert await log.append(entry(RUN, 1), expected=0) == first
        assert await log.end() == 2

    async def test_actors_of_one_run_do_not_stand_in_each_others_way(self, log: Log) -> None:
        for address in (RUN, AGENT, CALL, RUN.at(call="call_2"), RUN.at("s1", "call_2"), Address("other", "run_1")):
            await log.append(entry(address, 1), expected=0)
        assert await log.end() == 6

    async def test_of_many_at_once_one_wins(self, log: Log) -> None:
        start = await log.append(entry(RUN, 1), expected=0)

        async def race(racer: int) -> bool:
            try:
                await log.append(entry(RUN, 2, name=f"evt_racer_{racer}"), expected=start)
            except Conflict:
                return False
            return True

        won = await asyncio.gather(*(race(racer) for racer in range(20)))
        assert won.count(True) == 1
        assert await log.end() == 2

    async def test_a_fact_beyond_the_limit_is_refused(self, log: Log) -> None:
        with pytest.raises(TooLarge):
            await log.append(entry(RUN, 1, RunSucceeded(summary="x" * FACT_BYTES_MAX)), expected=0)
        assert await log.end() == 0

    @pytest.mark.parametrize("run", ["*", ">", "a.b", "run_1.s1", ""])
    async def test_a_token_that_reaches_into_other_actors_is_refused(self, log: Log, run: str) -> None:
        with pytest.raises(InvalidToken):
            await log.append(entry(Address("acme", run), 1), expected=0)
        assert await log.end() == 0

    async def test_the_scope_of_an_agent_holds_its_calls_and_nobody_elses(self, log: Log) -> None:
        await log.append(entry(RUN, 1), expected=0)
        mine = [
            await log.append(entry(AGENT, 1), expected=0),
            await log.append(entry(CALL, 1), expected=0),
        ]
        await log.append(entry(RUN.at("s2"), 1), expected=0)
        await log.append(entry(RUN.at("s1-2"), 1), expected=0)
        await log.append(entry(Address("acme", "run_2", "s1"), 1), expected=0)
        mine.append(await log.append(entry(AGENT, 2), expected=mine[0]))

        assert seqs_of(await log.load(AGENT.scope)) == mine
        assert await log.last(AGENT.scope) == mine[-1]
        assert await log.last(AGENT.fence) == mine[-1]
        assert await log.last(CALL.scope) == mine[1]

    async def test_the_scope_of_a_run_actor_is_its_own_facts_alone(self, log: Log) -> None:
        first = await log.append(entry(RUN, 1), expected=0)
        await grow(log, AGENT, 2)
        assert seqs_of(await log.load(RUN.scope)) == [first]
        assert len(await log.load(run_scope("acme", "run_1"))) == 3

    async def test_workspaces_are_apart(self, log: Log) -> None:
        await grow(log, RUN, 2)
        await grow(log, Address("other", "run_1"), 1)
        assert {record.address.workspace for record in await log.load(workspace_scope("acme"))} == {"acme"}
        assert len(await log.load(workspace_scope("other"))) == 1

    async def test_a_call_is_found_without_knowing_its_run(self, log: Log) -> None:
        await grow(log, RUN, 1)
        await grow(log, RUN.at("s9", "call_9"), 2)
        await grow(log, Address("other", "run_7", "s9", "call_9"), 1)

        records = await log.load(call_anywhere("acme", "call_9"))
        assert [record.address for record in records] == [RUN.at("s9", "call_9")] * 2
        found = await log.peek(call_anywhere("acme", "call_9"))
        assert found is not None
        assert found.version == 2
        assert await log.last(call_anywhere("acme", "call_9")) == found.seq

    async def test_only_what_is_above_a_sequence_is_loaded(self, log: Log) -> None:
        seqs = await grow(log, RUN, 6)
        assert seqs_of(await log.load(RUN.scope, after=seqs[2])) == seqs[3:]
        assert await log.load(RUN.scope, after=seqs[-1]) == []
        assert await log.load(RUN.scope, after=seqs[-1] + 1000) == []

    @pytest.mark.parametrize("known", [1, 2, 6, 50])
    async def test_all_is_loaded_however_many_the_caller_knew_of(self, log: Log, known: int) -> None:
        seqs = await grow(log, RUN, 6)
        assert seqs_of(await log.load(RUN.scope, after=seqs[0], known=known)) == seqs[1:]

    async def test_a_page_ends_at_its_limit_and_the_next_goes_on(self, log: Log) -> None:
        seqs = await grow(log, RUN, 7)
        first = await log.page(RUN.scope, limit=3)
        second = await log.page(RUN.scope, after=first[-1].seq, limit=3)
        third = await log.page(RUN.scope, after=second[-1].seq, limit=3)
        assert [seqs_of(page) for page in (first, second, third)] == [seqs[:3], seqs[3:6], seqs[6:]]
        assert seqs_of(await log.page(RUN.scope, limit=1)) == seqs[:1]
        assert seqs_of(await log.page(RUN.scope, limit=7)) == seqs

    async def test_a_long_history_is_loaded_in_order_and_whole(self, log: Log) -> None:
        runs = [Address("acme", f"run_{n}") for n in range(25)]
        await asyncio.gather(*(grow(log, run, 100) for run in runs))

        records = await log.load(workspace_scope("acme"))
        assert seqs_of(records) == list(range(1, 2501))
        assert seqs_of(await log.page(workspace_scope("acme"), after=100, limit=1500)) == list(range(101, 1601))
        assert [record.version for record in await log.load(runs[3].scope)] == list(range(1, 101))

    async def test_a_tail_brings_what_is_there_and_then_what_comes(self, log: Log) -> None:
        seqs = await grow(log, RUN, 3)
        tail = log.follow(workspace_scope("acme"), after=0)
        assert seqs_of(await take(tail, 3)) == seqs

        waiting = asyncio.create_task(take(tail, 1))
        later = await log.append(entry(CALL, 1), expected=0)
        assert seqs_of(await waiting) == [later]

    async def test_a_tail_from_the_middle_begins_behind_its_sequence(self, log: Log) -> None:
        seqs = await grow(log, RUN, 5)
        tail = log.follow(RUN.scope, after=seqs[2])
        assert seqs_of(await take(tail, 2)) == seqs[3:]

    async def test_a_tail_of_one_scope_sees_no_other(self, log: Log) -> None:
        tail = log.follow(AGENT.scope, after=0)
        waiting = asyncio.create_task(take(tail, 2))
        await grow(log, RUN, 3)
        mine = [*await grow(log, AGENT, 1), *await grow(log, CALL, 1)]
        assert seqs_of(await waiting) == mine

    async def test_a_tail_has_no_gap_and_no_repeat_while_many_append(self, log: Log) -> None:
        tail = log.follow(workspace_scope("acme"), after=0)
        waiting = asyncio.create_task(take(tail, 1500))
        await asyncio.gather(*(grow(log, Address("acme", f"run_{n}"), 50) for n in range(30)))
        assert seqs_of(await waiting) == list(range(1, 1501))

    async def test_two_tails_go_their_own_ways(self, log: Log) -> None:
        seqs = await grow(log, RUN, 4)
        ahead, behind = log.follow(RUN.scope, after=0), log.follow(RUN.scope, after=0)
        assert seqs_of(await take(ahead, 4)) == seqs
        assert seqs_of(await take(behind, 4)) == seqs

    async def test_long_content_and_every_kind_of_letter_survive(self, log: Log) -> None:
        text = "ünï ☃ \x00 \r\n " * 20_000
        await log.append(entry(CALL, 1, ToolCompleted(epoch=1, text=text, data={"rows": [1, None, "é"]})), expected=0)
        (record,) = await log.load(CALL.scope)
        assert isinstance(record.fact, ToolCompleted)
        assert record.fact.text == text
        assert record.fact.data == {"rows": [1, None, "é"]}

    async def test_a_notice_carries_who_must_act(self, log: Log) -> None:
        await log.append(entry(AGENT, 1, ModelRequested(turn=1), to="agent-coder"), expected=0)
        record = await log.peek(AGENT.scope)
        assert record is not None
        assert (record.to, record.type, record.ticket) == ("agent-coder", "model.requested.v1", 1)
