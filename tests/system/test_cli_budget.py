"""Budgets from the terminal: a run that is out ends the command with exit code 7, says what lets it go on, and does."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.cli import Folder, up

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
GOAL = "write a haiku about logs"
HAIKU = str(Path(__file__).parents[1] / "examples" / "haiku")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Folder]:
    made = Folder(tmp_path_factory.mktemp("up"))
    async with up(made):
        yield made


async def test_a_run_out_of_budget_exits_7_and_goes_on_when_it_is_raised(folder: Folder) -> None:
    found = await folder.run("run", GOAL, "--budget", "model_calls=2,usd=5")
    assert found.code == 7
    assert "out of budget (model calls)" in found.err
    hint = re.search(r"callboard runs budget (run_\w+) --add model_calls=20", found.err)
    assert hint is not None
    run = hint[1]
    status = await folder.run("status", run, "-o", "json")
    assert status.json["status"] == "needs_input"
    assert [wait["kind"] for wait in status.json["waiting_on"]] == ["budget"]
    shown = await folder.run("runs", "budget", run)
    assert "0 left of 2 (" in shown.out
    assert f"go on with   callboard runs budget {run} --add model_calls=20" in shown.out
    raised = await folder.run("runs", "budget", run, "--add", "model_calls=50", "-o", "json")
    assert raised.json["limit"] == {"cost_micros": 5_000_000, "model_calls": 52}
    assert (await folder.run("runs", "watch", run)).code == 0


async def test_a_raise_that_is_too_small_says_what_is_lacking_and_the_command_that_will_do(folder: Folder) -> None:
    found = await folder.run("run", "autumn rain", "--blueprint", HAIKU, "--budget", "0.03")
    assert found.code == 7
    explained = (await folder.run("help", "budgets")).out
    assert "$0.0472 needed at least" in found.err
    assert "$0.0472 needed at least, $0.0300 left" in explained
    hint = re.search(r"callboard (runs budget run_\w+ --add 1.00)", found.err)
    assert hint is not None
    run = hint[1].split()[2]
    small = await folder.run("runs", "budget", run, "--add", "0.01")
    assert small.code == 7
    assert "$0.0472 needed at least" in small.out
    assert "$0.0400 left; write would go on" in small.out
    assert "still too small" in small.err
    assert hint[0] in small.err
    assert (await folder.run("runs", "budget", run, "--add", "0.01", "-o", "json")).json["waits"] is None
    assert (await folder.run("runs", "watch", run)).code == 0
    shown = await folder.run("runs", "budget", run)
    assert "left of $0.0500 ($0.0039 used, $0.00 reserved)" in shown.out
    assert "what the whole run used         3 model calls                    $0.0039" in explained


@pytest.mark.parametrize("named", [("run", GOAL, "--budget", "0"), ("admin", "budget", "--to", "0")])
async def test_an_amount_is_refused_in_dollars(folder: Folder, named: tuple[str, ...]) -> None:
    found = await folder.run(*named)
    assert found.code == 2
    assert "usd: $0 must be $0.000001 to $1000000000" in found.err
    assert "micros" not in found.err


async def test_a_budget_below_what_is_used_is_refused_in_dollars(folder: Folder) -> None:
    await folder.run("run", GOAL, "--blueprint", HAIKU, "--budget", "model_calls=2,usd=1.00")
    found = await folder.run("runs", "budget", "@last", "--to", "0.001")
    assert found.code == 9
    assert re.search(r"budget.usd: \$0.001 is less than the \$0.00\d+ used and reserved", found.err)


async def test_what_is_no_budget_is_wrong_usage(folder: Folder) -> None:
    found = await folder.run("run", GOAL, "--budget", "eur=5")
    assert found.code == 2
    assert "eur=5 is no limit" in found.err


async def test_a_workspace_is_limited_from_the_terminal(folder: Folder) -> None:
    assert "none" in (await folder.run("admin", "budget", "--workspace", "small")).out
    set_ = await folder.run("admin", "budget", "--to", "50.00", "--workspace", "small")
    assert "$50.00 left of $50.00" in set_.out
    run = await folder.run("run", GOAL, "--workspace", "small")
    assert run.code == 0
