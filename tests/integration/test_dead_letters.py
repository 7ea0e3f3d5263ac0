"""What cannot be worked on becomes a dead letter with its cause, others go on undisturbed, and a replay gives it another chance."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.decider import TURNS_FAILED_MAX
from actors.letters import JUNK_OPEN_MAX
from actors.model import Answer, Delta, ModelRequest, ToolUse, Usage
from actors.run import WATCH_MS
from events.dead_letter import DeadLetterRecorded
from events.envelope import REPLY, Entry, Record
from events.plan import Retry
from events.run import Limits, RunRequested, StepStarted
from events.subjects import Address, name_scope
from events.tool import ApprovalRequested
from gateway.dead_letters import DeadLetters
from gateway.errors import Problem
from gateway.models import Models
from gateway.operations import DecideApproval
from projections.dead_letters import LetterFilter
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types

EVERY = LetterFilter()


def letters(one: Rig) -> DeadLetters:
    return DeadLetters(one.door)


async def until_letter(one: Rig, found: Any = lambda letter: True, *, seconds: float = 30) -> Record:
    """Wait for a recorded letter that `found` accepts."""
    scope = name_scope("default", run="-", name="dead_letter.recorded")

    async def follow() -> Record:
        async for batch in one.systems[0].facts.follow(scope, after=0):
            for record in batch:
                if found(record.fact):
                    return record
        raise AssertionError

    return await asyncio.wait_for(follow(), seconds)


async def command(one: Rig, subject: str, body: bytes) -> Any:
    """Publish a command as an outsider does and return its answer."""
    bus = one.systems[0].bus
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def note(message: Any) -> None:
        answered.set_result(message.body)

    subscription = await bus.subscribe("answers.here", note)
    await bus.request(subject, body, headers={REPLY: "answers.here"}, seconds=5)
    told = json.loads(await asyncio.wait_for(answered, 10))
    await subscription.unsubscribe()
    return told


async def test_junk_commands_are_answered_and_each_is_one_letter_however_often_it_comes(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        first = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"{broken")
        again = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"{broken")
        assert first["error"]["code"] == "bad_body"
        assert first["error"]["dead_letter"] == again["error"]["dead_letter"]
        other = await command(one, "cb.default.cmd.too.short", b"{}")
        assert other["error"]["code"] == "bad_subject"
        binary = await command(one, "cb.default.cmd.run_1.-.-.cancel", bytes(range(256)))
        nobody = await command(one, "cb.default.cmd.run_9.-.-.cancel", b'{"id":"cmd_1"}')
        assert nobody["error"]["code"] == "no_actor"
        open_ = await letters(one).open("default", EVERY)
        assert [state.letter.code for state in open_ if state.letter] == [
            "bad_body",
            "bad_subject",
            "bad_body",
            "no_actor",
        ]
        shown = await letters(one).get("default", binary["error"]["dead_letter"])
        assert shown.message is not None
        assert (shown.message.coded, shown.message.size) == (True, 256)
        run = await one.start(step("a"))
        assert types(await one.end(run))[-1] == "run.succeeded"


async def test_large_junk_is_kept_in_the_blob_store_and_larger_junk_is_cut(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        large = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"x" * 100_000)
        huge = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"x" * 300_000)
        kept = (await letters(one).get("default", large["error"]["dead_letter"])).message
        cut = (await letters(one).get("default", huge["error"]["dead_letter"])).message
        assert kept is not None
        assert cut is not None
        assert await one.systems[0].blobs.get("default", kept.sha) == b"x" * 100_000
        assert (cut.cut, len(cut.body), cut.size) == (True, 32 * 1024, 300_000)


async def test_a_command_to_a_run_that_comes_later_is_sent_again_under_its_own_id(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("ask_human", question="wait?")]))
    async with rig(nats_url, tmp_path, script) as one:
        id_ = one.systems[0].clock.new_id("run")
        told = await command(one, f"cb.default.cmd.{id_}.-.-.cancel", b'{"id":"cmd_early","by":"ann"}')
        letter = told["error"]["dead_letter"]
        dry = await letters(one).replay("default", letter, by="bob", dry_run=True)
        assert (dry.outcome, dry.way, dry.made) == ("would_replay", "sent", ("cmd_early",))
        assert (await letters(one).get("default", letter)).status == "open"
        await _begin(one, id_)
        await one.until(id_, lambda record: record.type.startswith("approval.requested"))
        outcome, same = [await letters(one).replay("default", letter, by="bob") for _ in range(2)]
        assert msgspec.structs.replace(outcome, before=True) == same
        assert outcome.made == ("cmd_early",)
        records = await one.end(id_)
        assert types(records)[-1] == "run.canceled"
        assert types(records).count("run.cancel_requested") == 1


async def _begin(one: Rig, id_: str) -> None:
    """Begin a run under an id that is already known, as a copy of another run's request."""
    other = await one.start(step("a"))
    first = (await one.until(other, lambda record: record.type.startswith("run.requested")))[0]
    from actors.run import StartRun

    assert isinstance(first.fact, RunRequested)
    start = StartRun(id=f"cmd_start-{id_}", now_ms=one.systems[0].clock.now_ms(), request=first.fact)
    await one.door.tell(Address("default", id_), start)


async def test_what_would_die_again_is_not_sent_again(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        told = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"{broken")
        with pytest.raises(Problem) as refused:
            await letters(one).replay("default", told["error"]["dead_letter"], by="ann")
        assert (refused.value.status, refused.value.code) == (409, "still_bad")


async def test_a_purged_letter_stays_purged_until_the_same_dies_again(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        told = await command(one, "cb.default.cmd.run_1.-.-.cancel", b"{broken")
        letter = told["error"]["dead_letter"]
        assert (await letters(one).purge("default", letter, by="ann")).outcome == "purged"
        assert (await letters(one).purge("default", letter, by="bob")).outcome == "purged"
        assert (await letters(one).get("default", letter)).by == "ann"
        assert await letters(one).open("default", EVERY) == []
        await command(one, "cb.default.cmd.run_1.-.-.cancel", b"{broken")
        again = await letters(one).get("default", letter)
        assert (again.status, again.times) == ("open", 2)


FAILING = Limits(attempts_max=1)


async def test_a_step_that_fails_for_good_is_a_letter_and_its_replay_is_a_new_run_that_does_only_the_rest(
    nats_url: str, tmp_path: Path
) -> None:
    fails = [{"calls": [say("read_file", path="nope.txt")]}]
    script = cassette(
        a=turns([say("write_file", path="a.txt", content="1")]),
        b=[*fails, {"calls": [say("finish", summary="b done")]}],
        c=turns(),
    )
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("b", "a", expects=("b.txt",)), step("c", "b"), limits=FAILING)
        records = await one.end(run)
        assert types(records)[-1] == "run.failed"
        record = await until_letter(one, lambda letter: letter.source == "step")
        letter = record.fact
        assert isinstance(letter, DeadLetterRecorded)
        assert (letter.run, letter.key, letter.role, letter.attempts) == (run, "b", "dev", 1)
        assert [error.partition(": ")[0] for error in letter.errors] == ["attempt 1 (dev)"]

        id_ = record.address.step
        dry = await letters(one).replay_many("default", LetterFilter(run=run), by="ann", dry_run=True)
        assert [(each.id, each.outcome, each.way) for each in dry.data] == [(id_, "would_replay", "new_run")]
        outcome = await letters(one).replay("default", id_, by="ann")
        assert outcome.made == dry.data[0].made
        new = outcome.made[0]
        assert (outcome.before, outcome.by) == (False, "ann")
        again = await letters(one).replay("default", id_, by="bob")
        assert again == msgspec.structs.replace(outcome, before=True)
        after = await one.end(new)
        first = after[0].fact
        assert isinstance(first, RunRequested)
        assert first.carried is not None
        assert (first.carried.run, first.carried.letter) == (run, id_)
        assert [each.key for each in first.carried.steps] == ["a"]
        started = {record.fact.key for record in after if record.type.startswith("step.started")}  # type: ignore[attr-defined]
        assert started <= {"b", "c"}
        state = await one.door.run_state("default", new)
        assert set(state.head) == {"a.txt"}


async def test_a_step_that_a_human_gives_up_is_a_letter_at_once(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=[{"say": "I would rather talk."}], b=turns())) as one:
        asks = step("a", retry=Retry(attempts_max=1), on_failure="ask")
        run = await one.start(asks, step("b", "a"), limits=Limits(turns_max=1))
        records = await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
        asked = records[-1].fact
        assert isinstance(asked, ApprovalRequested)
        await one.door.decide("default", asked.approval, DecideApproval(decision="approve"), by="ann")
        record = await until_letter(one, seconds=WATCH_MS / 1000 / 4)
        assert isinstance(record.fact, DeadLetterRecorded)
        assert (record.fact.run, record.fact.key) == (run, "a")
        assert types(await one.end(run))[-1] == "run.succeeded"


class BrokenModel:
    """A model whose client has a bug."""

    def __init__(self) -> None:
        self.mended = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        if not self.mended:
            raise ZeroDivisionError("a bug in the client")
        use = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"now it works"}'))
        yield Answer(blocks=(use,), stop="tool_use", usage=Usage(output_tokens=1), model="held")


async def test_a_turn_that_keeps_raising_is_a_letter_with_its_errors_while_other_runs_go_on(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        broken = BrokenModel()
        for system in one.systems:
            system.models = Models(system.settings, cassette=cassette(a=turns()), held=broken)
        run = await one.start(step("a"), model="held", limits=FAILING)
        record = await until_letter(one, lambda letter: letter.source == "turn")
        letter = record.fact
        assert isinstance(letter, DeadLetterRecorded)
        assert (letter.run, letter.key, letter.role, letter.attempts) == (run, "a", "dev", TURNS_FAILED_MAX)
        assert letter.errors == ("ZeroDivisionError: a bug in the client",) * TURNS_FAILED_MAX
        assert letter.message is not None
        assert letter.message.subject.startswith(f"cb.default.evt.{run}.")
        assert types(await one.end(run))[-1] == "run.failed"
        other = await one.start(step("a"))
        assert types(await one.end(other))[-1] == "run.succeeded"

        broken.mended = True
        outcomes = await letters(one).replay_many("default", LetterFilter(run=run), by="ann", dry_run=False)
        made = {each.made for each in outcomes.data}
        assert len(made) == 1, "the turn's letter and its step's begin one run together"
        assert types(await one.end(made.pop()[0]))[-1] == "run.succeeded"


async def test_a_message_whose_actor_cannot_be_read_is_a_letter_and_stays_in_its_queue(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("ask_human", question="wait?")]), b=turns())
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"))
        records = await one.until(run, lambda record: record.type.startswith("approval.requested"))
        mine = [record for record in records if record.address.kind == "run"]
        last, door = mine[-1], one.systems[0]
        poison = Entry(
            address=last.address,
            to="run",
            fact=StepStarted(step="stp_x", key="not-in-the-plan", role="dev", attempt=1, actor="stp_x"),
            id="evt_poison",
            time_ms=last.time_ms,
            causation="",
            version=last.version + 1,
        )
        seq = await door.facts.append(poison, expected=last.seq)
        record = await until_letter(one, lambda letter: letter.source == "delivery")
        assert isinstance(record.fact, DeadLetterRecorded)
        assert (record.fact.run, record.fact.seq) == (run, seq)
        assert "not-in-the-plan" in record.fact.reason
        with pytest.raises(Problem) as refused:
            await letters(one).replay("default", record.address.step, by="ann")
        assert refused.value.code == "still_queued"
        other = await one.start(step("b"))
        assert types(await one.end(other))[-1] == "run.succeeded"


async def test_a_flood_of_junk_leaves_no_more_letters_than_the_limit(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0) as one:
        from actors.letters import Letters, Rate
        from events.jetstream.api import CALLBOARD_INBOX

        class Junk(msgspec.Struct):
            body: bytes
            seq: int = 1
            subject: str = "cb.default.cmd.run_1.-.-.cancel"
            stream: str = CALLBOARD_INBOX
            delivered: int = 1
            received: float = 0.0

        recorder = Letters(one.systems[0].engine, open_max=20, rate=Rate(1e6, 1e6))
        made = [await recorder.of_junk(Junk(f"junk {n}".encode()), "bad_body", "no") for n in range(60)]  # type: ignore[arg-type]
        assert sum(bool(id_) for id_ in made) == 20
        assert recorder.dropped == 40
        open_ = await letters(one).open("default", EVERY)
        assert len(open_) == 21
        assert [state.letter.code for state in open_ if state.letter][-1] == "overflow"
        assert JUNK_OPEN_MAX >= 100
