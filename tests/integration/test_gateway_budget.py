"""Budgets at the doors: a run is begun with one, looked at, raised, and never set below what is used and reserved."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.doors import Doors, open_doors


@pytest.fixture
async def doors(nats_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(nats_url, database_url, tmp_path) as doors:
        yield doors


async def test_a_budget_is_looked_at_and_raised(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x", "budget": {"cost_micros": 2_000_000, "model_calls": 9}}))["id"]
    found = await doors.get(f"/v1/runs/{run}/budget")
    assert found["limit"] == {"cost_micros": 2_000_000, "model_calls": 9}
    assert found["parts"]["model_calls"] == {"limit": 9, "used": 0, "reserved": 0, "left": 9}
    raised = await doors.post(f"/v1/runs/{run}/budget", {"add": {"cost_micros": 500_000}, "budget": {"model_calls": 5}})
    assert raised["limit"] == {"cost_micros": 2_500_000, "model_calls": 5}
    used = await doors.get(f"/v1/runs/{run}/usage")
    assert used["budget"]["limit"] == raised["limit"]


async def test_the_same_raise_under_one_key_counts_once(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x", "budget": {"model_calls": 9}}))["id"]
    for _ in range(2):
        headers = {"Idempotency-Key": "raise-1"}
        answer = await doors.http.post(f"/v1/runs/{run}/budget", json={"add": {"model_calls": 1}}, headers=headers)
        assert answer.json()["limit"] == {"model_calls": 10}


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        ({"tokens": 0}, "/budget/tokens"),
        ({"tokens": -4}, "/budget/tokens"),
        ({"cost_micros": 1.5}, "/budget/cost_micros"),
        ({"cost_micros": 10**16}, "/budget/cost_micros"),
        ({"eur": 2}, "/budget"),
        ({"depth": 99}, "/budget/depth"),
    ],
)
async def test_what_is_no_budget_is_refused_with_its_field(doors: Doors, budget: dict[str, float], field: str) -> None:
    answer = await doors.http.post("/v1/runs", json={"goal": "x", "budget": budget})
    assert answer.status_code == 422
    assert field in answer.text


async def test_a_run_without_a_budget_says_so_and_none_is_put_on_it(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x"}))["id"]
    looked = await doors.http.get(f"/v1/runs/{run}/budget")
    assert (looked.status_code, looked.json()["code"]) == (404, "no_budget")
    put = await doors.http.post(f"/v1/runs/{run}/budget", json={"add": {"tokens": 5}})
    assert (put.status_code, put.json()["code"]) == (409, "no_budget")


async def test_a_limit_that_a_run_lacks_is_not_put_on_it_under_way(doors: Doors) -> None:
    run = (await doors.post("/v1/runs", {"goal": "x", "budget": {"model_calls": 9}}))["id"]
    put = await doors.http.post(f"/v1/runs/{run}/budget", json={"budget": {"tokens": 5}})
    assert (put.status_code, put.json()["code"]) == (409, "not_limited")


async def test_a_workspace_is_limited_looked_at_and_not_set_below_what_is_reserved(doors: Doors) -> None:
    assert (await doors.get("/v1/budget"))["limit"] == {}
    limited = await doors.post("/v1/budget", {"limit": {"cost_micros": 9_000_000}})
    assert limited["parts"]["cost_micros"] == {"limit": 9_000_000, "used": 0, "reserved": 0, "left": 9_000_000}
    assert (limited["runs"], limited["waiting"]) == (0, [])
    refused = await doors.http.post("/v1/budget", json={"limit": {"wall_seconds": 60}})
    assert refused.status_code == 422
    assert "/limit/wall_seconds" in refused.text
    run = await doors.post("/v1/runs", {"goal": "x"})
    assert (await doors.get(f"/v1/runs/{run['id']}/budget"))["parts"]["cost_micros"]["limit"] == 0
