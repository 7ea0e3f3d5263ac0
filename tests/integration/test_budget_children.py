"""Budgets along the tree: a run below claims of the run above it, waits in its line, and hands back what it did not use."""

from pathlib import Path

from events.agent import ModelRequested
from events.budget import Budget, BudgetExhausted, BudgetReserved, BudgetReturned
from events.envelope import Record
from events.run import RunChildRequested
from events.subjects import workspace_scope
from events.tool import ToolFailed
from gateway.operations import RaiseRun
from tests.integration.engine import Rig, cassette, rig, say, step, turns
from tests.integration.test_children import child_of, facts, spawn, start
from tests.invariants_budget import Books

READ = [say("list_files", glob="*")]


async def booked(one: Rig) -> Books:
    """Book all that happened in the workspace, in the order of the log."""
    books = Books()
    for record in await one.systems[0].facts.load(workspace_scope("default")):
        books.take(record)
    return books


async def test_a_run_below_spends_of_the_run_above_and_hands_back_the_rest(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c")]), c=turns(READ, READ))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"), budget=Budget(model_calls=20, tool_calls=20))
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        child = child_of(records)
        under = await one.end(child)
        assert len(facts(under, ModelRequested)) == 3
        (back,) = facts(records, BudgetReturned)
        assert (back.run, back.used.model_calls, back.used.tool_calls) == (child, 3, 2)
        state = await one.door.run_state("default", run)
        assert state.purse is not None
        assert state.purse.committed.model_calls == 5
        assert (await booked(one)).checked > 10


async def test_a_run_below_that_finds_nothing_left_waits_until_the_run_above_is_raised(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([spawn("c")]), c=turns(READ, READ))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"), budget=Budget(model_calls=2))
        records = await one.until(run, lambda record: isinstance(record.fact, RunChildRequested))
        child = child_of(records)

        def is_out(record: Record) -> bool:
            return isinstance(record.fact, BudgetExhausted)

        out = (await one.until(child, is_out))[-1].fact
        assert isinstance(out, BudgetExhausted)
        assert out.above == run
        await one.door.raise_budget("default", run, RaiseRun(add=Budget(model_calls=10)), by="ann")
        records = await one.end(run)
        assert records[-1].type == "run.succeeded.v1"
        assert facts(records, BudgetReserved)
        assert (await booked(one)).checked > 10


async def test_a_run_whose_budget_has_no_depth_left_begins_none(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c")]))
    async with rig(nats_url, tmp_path, script) as one:
        run = await start(one, step("a"), budget=Budget(model_calls=20, depth=0))
        records = await one.end(run)
        (failed,) = facts(records, ToolFailed)
        assert failed.code == "budget_depth"
        assert not facts(records, RunChildRequested)


async def test_a_call_gives_the_run_it_begins_a_part_of_the_budget(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c", budget={"model_calls": 1, "usd": 0.5}, wait=False)]), c=turns(READ, READ))
    async with rig(nats_url, tmp_path, script, budget_usd=9.0) as one:
        run = await start(one, step("a"), budget=Budget(model_calls=20))
        records = await one.until(run, lambda record: isinstance(record.fact, RunChildRequested))
        (requested,) = facts(records, RunChildRequested)
        assert requested.request.budget == Budget(model_calls=1, cost_micros=500_000)
        assert requested.request.pooled == ("model_calls",)
        under = await one.until(requested.child, lambda record: isinstance(record.fact, BudgetExhausted))
        assert len(facts(under, ModelRequested)) == 1
        await one.door.raise_budget("default", requested.child, RaiseRun(add=Budget(model_calls=9)), by="ann")
        assert (await one.end(requested.child))[-1].type == "run.succeeded.v1"
        assert (await one.end(run))[-1].type == "run.succeeded.v1"
        assert (await booked(one)).checked > 10


async def test_without_a_part_of_its_own_a_run_below_is_not_given_the_usual_budget(
    nats_url: str, tmp_path: Path
) -> None:
    script = cassette(a=turns([spawn("c")]), c=turns())
    async with rig(nats_url, tmp_path, script, budget_usd=9.0) as one:
        run = await start(one, step("a"), budget=Budget())
        records = await one.end(run)
        (requested,) = facts(records, RunChildRequested)
        assert (requested.request.budget or Budget()) == Budget()


async def test_a_part_that_is_none_is_refused_to_the_model(nats_url: str, tmp_path: Path) -> None:
    script = cassette(a=turns([spawn("c", budget={"usd": 0})]))
    async with rig(nats_url, tmp_path, script) as one:
        records = await one.end(await start(one, step("a")))
        (failed,) = facts(records, ToolFailed)
        assert failed.code == "bad_arguments"
        assert "usd" in failed.reason
        assert not facts(records, RunChildRequested)
