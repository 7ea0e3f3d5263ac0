"""Budgets on real workers: reservations never pass them, a run that is out keeps what it has, and a raise lets it go on."""

from pathlib import Path
from typing import Any

import pytest

from actors.workspace_budget import WorkspaceState, budget_address
from events.agent import ModelRequested
from events.budget import Budget, BudgetAllotted, BudgetExhausted, BudgetGranted, BudgetShort
from events.envelope import Record
from events.jetstream.api import CALLBOARD_INBOX, Answer, ask
from events.jetstream.streams import INBOX_CONSUMER
from events.run import StepStarted
from events.subjects import EVERY_TIMER
from events.tool import ApprovalRequested
from gateway.blueprint import BlueprintDefinition, RoleFile
from gateway.errors import Problem
from gateway.operations import CreateRun, DecideApproval, RaiseRun
from tests.integration.engine import Rig, cassette, rig, say, step, turns, types
from tests.invariants_budget import Books

READ = [say("list_files", glob="*")]


def booked(records: list[Record]) -> Books:
    books = Books()
    for record in records:
        books.take(record)
    return books


def count(records: list[Record], type_: type) -> int:
    return sum(isinstance(record.fact, type_) for record in records)


def is_out(record: Record) -> bool:
    return isinstance(record.fact, BudgetExhausted)


async def raise_(one: Rig, run: str, **add: int) -> None:
    await one.door.raise_budget("default", run, RaiseRun(add=Budget(**add)), by="ann")


async def test_64_parallel_steps_on_a_budget_for_ten_calls_make_ten_and_all_end_after_a_raise(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(**{f"s{n}x": turns(READ) for n in range(64)})
    async with rig(nats_url, tmp_path, script, workers=3) as one:
        run = await one.start(*(step(f"s{n}x") for n in range(64)), budget=Budget(model_calls=10))
        records = await one.until(run, is_out)
        assert count(records, StepStarted) == 10
        assert count(records, ModelRequested) == 10
        assert booked(records).checked > 20
        state = await one.door.run_state("default", run)
        assert state.purse is not None
        assert state.purse.rest.model_calls == 0
        await raise_(one, run, model_calls=200)
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert count(records, ModelRequested) == 128
        assert booked(records).checked > 300


async def test_a_run_out_of_money_stops_before_the_next_call_keeps_its_results_and_goes_on_when_raised(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")]), b=turns(READ, READ, READ))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), step("b", "a"), budget=Budget(model_calls=4, cost_micros=5_000_000))
        records = await one.until(run, is_out)
        out = records[-1].fact
        assert isinstance(out, BudgetExhausted)
        assert out.lacks == ("model_calls",)
        assert out.keys == ("b",)
        state = await one.door.run_state("default", run)
        assert state.steps["a"].status == "done"
        assert set(state.head) == {"a.txt"}
        lower = RaiseRun(budget=Budget(model_calls=1))
        with pytest.raises(Problem) as refused:
            await one.door.raise_budget("default", run, lower, by="ann")
        assert refused.value.code == "below_committed"
        assert "4 used and reserved" in refused.value.detail
        await raise_(one, run, model_calls=2)
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert count(records, BudgetExhausted) == 1
        assert booked(records).checked > 0


async def test_after_the_wall_time_nothing_new_is_asked_until_it_is_raised(nats_url: str, tmp_path: Path) -> None:
    release = say("publish_release", name="a", version="1", include=["*.txt"])
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")], [release]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await one.start(step("a"), budget=Budget(wall_seconds=1))
        records = await one.until(run, is_out)
        assert count(records, ApprovalRequested) == 1
        asked = next(record.fact for record in records if isinstance(record.fact, ApprovalRequested))
        await one.door.decide("default", asked.approval, DecideApproval(decision="approve"), by="ann")
        records = await one.until(run, lambda record: isinstance(record.fact, BudgetShort))
        assert "tool.completed" in types(records)
        await raise_(one, run, wall_seconds=600)
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert count(records, BudgetGranted) == 1


class InboxState(Answer, frozen=True):
    """How much of the inbox is not done."""

    num_pending: int = 0
    num_ack_pending: int = 0


async def inbox_is_done(one: Rig) -> None:
    """Wait until nothing is to be worked on in the inbox."""
    while True:
        info = await ask(one.systems[0].bus, f"CONSUMER.INFO.{CALLBOARD_INBOX}.{INBOX_CONSUMER}", {}, answer=InboxState)
        if not info.num_pending and not info.num_ack_pending:
            return


async def test_a_timer_whose_time_is_over_is_not_set_again_by_its_own_turn(nats_url: str, tmp_path: Path) -> None:
    release = say("publish_release", name="a", version="1", include=["*.txt"])
    script = cassette(a=turns([say("write_file", path="a.txt", content="1")], [release]))
    async with rig(nats_url, tmp_path, script) as one:
        timers: list[str] = []
        await one.systems[0].bus.subscribe(EVERY_TIMER, lambda message: timers.append(message.subject))
        run = await one.start(step("a"), budget=Budget(wall_seconds=1))
        await one.until(run, is_out)
        await inbox_is_done(one)
        assert [subject.rpartition(".")[2] for subject in timers].count("wall") == 1


async def test_a_run_without_a_budget_writes_nothing_of_budgets(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns(READ))) as one:
        run = await one.start(step("a"))
        records = await one.end(run)
        assert not [record.type for record in records if record.type.startswith("budget.")]
        assert not [record.seq for record in records if b"reserve" in record.body or b"grant" in record.body]
        with pytest.raises(Problem) as refused:
            await raise_(one, run, model_calls=1)
        assert refused.value.status == 409


async def test_a_run_that_names_no_budget_has_the_usual_one(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns(READ)), workers=0, budget_usd=1.5) as one:

        async def budget_of(**more: Any) -> Budget | None:
            request = (await one.door.run_state("default", await one.start(step("a"), **more))).request
            assert request is not None
            return request.budget

        assert await budget_of() == Budget(cost_micros=1_500_000)
        assert await budget_of(budget=Budget(tokens=90_000)) == Budget(tokens=90_000)
        assert await budget_of(budget=Budget()) == Budget()
        own = BlueprintDefinition(
            name="own", steps=(step("a"),), roles=(RoleFile("dev", "does it", "Do it."),), budget=Budget(model_calls=7)
        )
        accepted, _ = await one.door.create_run("default", CreateRun(goal="x", definition=own), by="ann")
        request = (await one.door.run_state("default", accepted.id)).request
        assert request is not None
        assert request.budget == Budget(model_calls=7)


async def test_a_call_within_the_slice_costs_no_extra_fact(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns(READ, READ))) as one:
        run = await one.start(step("a"), budget=Budget(cost_micros=20_000_000, model_calls=50, tool_calls=50))
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert not [record.type for record in records if record.type.startswith("budget.")]


async def emptied(one: Rig) -> WorkspaceState:
    """Follow the workspace's budget until nothing is reserved."""
    async for _ in one.systems[0].facts.follow(budget_address("default").fence, after=0):
        pool = await one.door.workspace_budget("default")
        if not pool.holds:
            return pool
    raise AssertionError("the log ended")


@pytest.mark.parametrize("budget", [Budget(tokens=0), Budget(cost_micros=-1), Budget(model_calls=10**16)])
async def test_a_budget_that_is_none_is_refused_with_its_field(nats_url: str, tmp_path: Path, budget: Budget) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns(READ))) as one:
        with pytest.raises(Problem) as refused:
            await one.start(step("a"), budget=budget)
        assert refused.value.status == 422
        assert "/budget/" in str(refused.value.body())


async def test_a_run_waits_in_line_when_its_workspace_is_out_and_goes_on_when_another_hands_back(
    nats_url: str, tmp_path: Path
) -> None:
    release = say("publish_release", name="a", version="1", include=["*.txt"])
    script = cassette(
        a=turns([say("write_file", path="a.txt", content="1")], [release]), b=turns([say("list_files", glob="*")])
    )
    async with rig(nats_url, tmp_path, script) as one:
        await one.door.limit_workspace("default", Budget(model_calls=6), by="ann")
        first = await one.start(step("a"), budget=Budget(model_calls=5))
        records = await one.until(first, lambda record: isinstance(record.fact, ApprovalRequested))
        asked = records[-1].fact
        second = await one.start(step("b"), budget=Budget(model_calls=3))
        records = await one.until(second, is_out)
        state = await one.door.run_state("default", second)
        assert state.purse is not None
        assert state.purse.exhausted is not None
        assert state.purse.exhausted.workspace
        pool = await one.door.workspace_budget("default")
        assert (list(pool.holds), list(pool.line)) == ([first, second], [second])
        assert isinstance(asked, ApprovalRequested)
        await one.door.decide("default", asked.approval, DecideApproval(decision="approve"), by="ann")
        await one.end(first)
        records = await one.end(second)
        assert records[-1].type == "run.succeeded.v1"
        assert booked(records).checked > 0
        pool = await emptied(one)
        assert pool.spent.model_calls == 5


async def test_a_run_without_a_budget_in_a_limited_workspace_claims_shares_and_hands_them_back(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns(READ, READ, READ, READ))) as one:
        await one.door.limit_workspace("default", Budget(model_calls=9, tool_calls=100), by="ann")
        run = await one.start(step("a"))
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert count(records, BudgetAllotted) > 1
        pool = await emptied(one)
        assert pool.spent.model_calls == 5
        assert pool.spent.tool_calls == 4
