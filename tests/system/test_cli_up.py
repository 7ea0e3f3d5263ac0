"""`callboard up` and the commands beside it, as a user has them: what they print where, and how they exit."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.cli import ANSI, Ended, Folder, ended, up

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
GOAL = "write a haiku about logs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Folder]:
    made = Folder(tmp_path_factory.mktemp("up"))
    async with up(made):
        yield made


def clean(found: Ended) -> Ended:
    """Nothing that a person must not see."""
    assert not ANSI.search(found.out + found.err)
    assert "Traceback" not in found.err
    assert "Warning" not in found.err
    return found


LISTS = ["runs", "approvals", "artifacts", "events", "blueprints"]


@pytest.mark.parametrize("noun", LISTS)
async def test_every_list_is_json_also_without_a_row(folder: Folder, noun: str) -> None:
    found = clean(await folder.run(noun, "-o", "json", "--workspace", "empty"))
    assert found.code == 0
    assert isinstance(found.json["data"], list)
    assert found.json["has_more"] is False
    lines = clean(await folder.run(noun, "-o", "jsonl", "--workspace", "empty"))
    assert len(lines.lines) == len(found.json["data"])


async def test_a_run_is_followed_and_its_result_is_on_stdout(folder: Folder) -> None:
    found = clean(await folder.run("run", GOAL))
    assert found.code == 0
    assert found.out.startswith("run        run_")
    assert "status     ✓ succeeded" in found.out
    assert "run requested" in found.err
    assert "✓ succeeded · 3/3 steps" in found.err


async def test_jsonl_streams_envelopes_and_ends_with_the_result(folder: Folder) -> None:
    found = clean(await folder.run("run", GOAL, "-o", "jsonl"))
    assert found.code == 0
    *envelopes, result = found.lines
    assert [line["seq"] for line in envelopes] == sorted(line["seq"] for line in envelopes)
    assert envelopes[0]["type"] == "run.requested.v1"
    assert envelopes[-1]["type"] == "run.succeeded.v1"
    assert result["type"] == "result"
    assert (result["status"], result["is_error"], result["run_id"]) == ("succeeded", False, envelopes[0]["run"])
    assert result["seq"] == envelopes[-1]["seq"]
    stored = await folder.run("events", result["run_id"], "-o", "jsonl")
    assert stored.lines == envelopes


async def test_a_detached_run_is_an_id_and_everything_finds_it(folder: Folder, tmp_path: Path) -> None:
    started = clean(await folder.run("run", GOAL, "-d", "--label", "team=blue"))
    id_ = started.out.strip()
    assert started.code == 0
    assert f"callboard runs watch {id_}" in started.err
    watched = clean(await folder.run("runs", "watch", id_, "-o", "json"))
    assert watched.code == 0
    assert watched.json["run_id"] == id_
    for named in (id_, id_[:29], "@last"):
        assert (await folder.run("runs", "get", named, "-o", "id")).out.strip() == id_
    assert (await folder.run("runs", id_, "-j")).json["labels"] == {"team": "blue"}
    assert (await folder.run("runs", "--label", "team=blue", "-o", "id")).out.split() == [id_]
    steps = (await folder.run("runs", "steps", id_, "-j")).json["data"]
    assert [step["key"] for step in steps] == ["planner", "research", "draft", "review"]
    graph = (await folder.run("runs", "graph", id_, "-j")).json
    assert {"from": "review", "to": "draft", "rework": True} in graph["edges"]
    assert (await folder.run("runs", "result", id_, "-j")).json["is_error"] is False
    names = [row["name"] for row in (await folder.run("artifacts", id_, "-j")).json["data"]]
    assert names == ["notes/research.md", "result.md"]
    assert GOAL in (await folder.run("artifacts", "cat", f"{id_}:result.md")).out
    pulled = clean(await folder.run("artifacts", "pull", id_, str(tmp_path / "out")))
    assert (tmp_path / "out/result.md").read_text() == (await folder.run("artifacts", "cat", f"{id_}:result.md")).out
    assert pulled.out.strip() == str(tmp_path / "out")
    again = await folder.run("artifacts", "pull", id_, str(tmp_path / "out"), "--no-input")
    assert (again.code, again.err.splitlines()[-1]) == (2, " hint: add --yes")


async def test_events_are_told_in_words_filtered_and_in_full(folder: Folder) -> None:
    await folder.run("run", GOAL, "-q")
    all_ = clean(await folder.run("events", "@last"))
    assert "run requested" in all_.out.splitlines()[0]
    assert "run succeeded" in all_.out.splitlines()[-1]
    tools = clean(await folder.run("events", "@last", "--type", "tool.requested", "-v"))
    assert "research          · tool asked: " in tools.out
    assert '"tool": "save_artifact"' in tools.out or '"tool": "write_file"' in tools.out
    some = clean(await folder.run("events", "@last", "-n", "3"))
    assert len(some.out.splitlines()) == 3
    assert "--after" in some.err
    followed = clean(await folder.run("events", "@last", "-f"))
    assert followed.out == all_.out
    run = (await folder.run("runs", "get", "@last", "-o", "id")).out.strip()
    of_all = clean(await folder.run("events", "--type", "run"))
    assert of_all.out.splitlines()
    assert run in of_all.out
    assert all(" run_" in one for one in of_all.out.splitlines())


async def test_without_input_an_approval_ends_it_with_8_and_later_decisions_count(
    folder: Folder, tmp_path: Path
) -> None:
    waiting = clean(await folder.run("run", GOAL, "--approve", "all", "--no-input"))
    assert waiting.code == 8
    assert "needs a human" in waiting.err
    assert (await folder.run("status", "@last", "-j")).json["status"] == "waiting"
    pulled = clean(await folder.run("artifacts", "pull", "@last", str(tmp_path / "out")))
    assert "it is waiting: these are the files of the steps done so far" in pulled.err
    (approval,) = (await folder.run("approvals", "-j")).json["data"]
    shown = clean(await folder.run("approvals", approval["id"]))
    assert approval["tool"] in shown.out
    rejected = clean(await folder.run("reject", "@last", "-m", "not like this"))
    assert rejected.code == 0
    again = clean(await folder.run("approve", approval["id"]))
    assert again.code == 9
    assert again.err.startswith("error: ")
    assert (await folder.run("reject", approval["id"], "-m", "not like this")).code == 0


async def test_a_canceled_run_is_an_error_with_its_own_code(folder: Folder) -> None:
    assert (await folder.run("run", GOAL, "--approve", "all", "--no-input")).code == 8
    assert (await folder.run("cancel", "@last", "-m", "enough")).code == 0
    watched = clean(await folder.run("runs", "watch", "@last", "--yes", "-j"))
    assert (watched.code, watched.json["status"], watched.json["is_error"]) == (6, "canceled", True)
    assert (await folder.run("runs", "result", "@last")).code == 6
    assert (await folder.run("cancel", "@last")).code == 0


async def test_a_paused_run_is_told_as_such_goes_on_when_resumed_and_ends_when_terminated(folder: Folder) -> None:
    assert (await folder.run("run", GOAL, "--approve", "all", "--no-input")).code == 8
    paused = clean(await folder.run("runs", "pause", "@last", "-m", "lunch"))
    assert (paused.code, "is paused" in paused.out + paused.err) == (0, True)
    run = (await folder.run("status", "@last", "-j")).json
    assert run["status"] == "paused"
    shown = clean(await folder.run("status", "@last", "--time", "iso"))
    assert f"by {run['paused']['by']} {run['paused']['since']}: lunch" in shown.out
    assert f"callboard runs resume {run['id']}" in shown.out
    watched = clean(await folder.run("runs", "watch", "@last", "--no-input"))
    assert "run paused by" in watched.err
    assert f"go on with: callboard runs resume {run['id']}" in watched.err
    assert (await folder.run("runs", "pause", "@last", "-q")).out.startswith("run_")
    assert (await folder.run("runs", "resume", "@last", "-j")).json["status"] != "paused"
    ended_ = clean(await folder.run("runs", "terminate", "@last", "-m", "enough", "-j"))
    assert (ended_.code, ended_.json["status"], ended_.json["error"]["reason"]) == (0, "canceled", "enough")
    assert clean(await folder.run("runs", "pause", "@last")).code == 9


async def test_acts_on_an_ended_run_have_one_rule_of_exit_codes(folder: Folder) -> None:
    acts = {
        "cancel": ("cancel",),
        "terminate": ("runs", "terminate"),
        "pause": ("runs", "pause"),
        "resume": ("runs", "resume"),
        "raise": ("runs", "budget", "--add", "1.00"),
    }

    async def told(run: str) -> dict[str, int]:
        return {name: clean(await folder.run(*act, run)).code for name, act in acts.items()}

    found = await folder.run("run", GOAL, "--approve", "all", "--no-input", "--budget", "1.00")
    waiting = re.search(r"apr_\w+", found.err)
    assert waiting is not None
    canceled = (await folder.run("runs", "list", "-n", "1", "-o", "id")).out.strip()
    assert (await folder.run("runs", "terminate", canceled)).code == 0
    assert await told(canceled) == {"cancel": 0, "terminate": 0, "pause": 9, "resume": 9, "raise": 9}
    assert clean(await folder.run("approve", waiting[0])).code == 9
    assert (await folder.run("run", GOAL, "--yes", "--approve", "all", "--budget", "1.00")).code == 0
    assert await told("@last") == {"cancel": 9, "terminate": 9, "pause": 9, "resume": 9, "raise": 9}
    approved = (await folder.run("approvals", "--status", "approved", "-o", "id")).out.split()[0]
    assert (await folder.run("approve", approved)).code == 0
    assert (await folder.run("reject", approved, "-m", "late")).code == 9
    assert "9   when the run or the call has ended" in (await folder.run("help", "exit-codes")).out


async def test_yes_approves_and_says_so(folder: Folder) -> None:
    found = clean(await folder.run("run", GOAL, "--approve", "all", "--yes"))
    assert found.code == 0
    assert "(--yes)" in found.err
    decided = (await folder.run("approvals", "--status", "approved", "-j")).json["data"]
    assert decided[0]["comment"] == "answered without asking: --yes"


async def test_ctrl_c_detaches_and_the_run_goes_on(folder: Folder) -> None:
    process = await folder.start("run", GOAL, "--approve", "all")
    assert process.stderr is not None
    while b"approval wanted" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    found = await ended(process)
    assert found.code == 130
    assert "callboard runs watch run_" in found.err
    assert "Traceback" not in found.err
    assert (await folder.run("status", "@last", "-j")).json["status"] == "waiting"
    assert (await folder.run("cancel", "@last")).code == 0


async def test_a_time_to_wait_ends_it_with_8(folder: Folder) -> None:
    found = clean(await folder.run("run", GOAL, "--approve", "all", "--timeout", "1s"))
    assert found.code == 8
    assert (await folder.run("cancel", "@last", "-q")).out.startswith("run_")


async def test_one_key_starts_one_run(folder: Folder) -> None:
    first = await folder.run("run", GOAL, "-d", "-q", "--id", "key-1")
    assert (await folder.run("run", GOAL, "-d", "-q", "--id", "key-1")).out == first.out
    other = clean(await folder.run("run", "something else", "-d", "-q", "--id", "key-1"))
    assert other.code == 9
    assert other.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 2, "there is no goal"),
        (["run", " "], 2, "there is no goal"),
        (["run", "x" * 70_000], 2, "at most 65536"),
        (["run", "x", "--blueprint", "nope"], 2, "unknown blueprint"),
        (["run", "x", "--blueprint", "./nope"], 2, "no such blueprint"),
        (["run", "x", "--model", "nope"], 2, "nope"),
        (["run", "x", "--label", "y"], 2, "name=value"),
        (["run", "x", "-f", "nope.yaml"], 2, "nope.yaml"),
        (["runs", "get", "run_01m7yk0n5aeh1sk3xap5c8h5qw"], 3, "no run"),
        (["runs", "get", "run_*>"], 2, "no id"),
        (["runs", "get", "run_a.b"], 2, "no id"),
        (["runs", "get", "ab"], 2, "too short"),
        (["runs", "get", "@nope"], 2, "names no run"),
        (["runs", "--status", "nope"], 2, "status"),
        (["events", "@last", "--type", "nope"], 2, "nope"),
        (["approve", "apr_01m7yk0n5aeh1sk3xap5c8h5qw"], 3, "no approval"),
        (["artifacts", "cat", "@last:nope"], 3, "has no artifact"),
        (["runs", "list", "--nope"], 2, "No such option"),
        (["rnus"], 2, "No such command"),
        (["runs", "get"], 2, "Missing argument"),
        (["run", "x", "--timeout", "soon"], 2, "no duration"),
        (["runs", "--workspace", "a.b"], 2, "workspace"),
    ],
)
async def test_bad_input_is_one_clean_error(folder: Folder, arguments: list[str], code: int, said: str) -> None:
    found = clean(await folder.run(*arguments))
    assert found.code == code, found.err
    assert said in found.err
    assert found.err.startswith("error: ")
    assert found.out == ""


async def test_a_reader_that_goes_away_is_no_error(folder: Folder) -> None:
    process = await folder.start("events", "-n", "1000")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined] - as `head -1` does
    found = await ended(process)
    assert found.err == ""
    assert found.code == 0


async def test_colours_come_when_they_are_asked_for(folder: Folder) -> None:
    assert ANSI.search((await folder.run("blueprints", "--color", "always")).out)
    assert not ANSI.search((await folder.run("blueprints")).out)


async def test_a_second_up_says_who_holds_the_folder(folder: Folder) -> None:
    found = clean(await folder.run("up", "--port", "0"))
    assert found.code == 2
    assert "is held by process" in found.err


async def test_a_port_in_use_is_said(folder: Folder, tmp_path: Path) -> None:
    told = json.loads((folder.path / ".callboard/up.json").read_text())
    port = told["api_url"].rpartition(":")[2]
    found = clean(await Folder(tmp_path).run("up", "--port", port))
    assert (found.code, f"port {port}" in found.err) == (10, True)


async def test_the_doctor_is_content(folder: Folder) -> None:
    found = clean(await folder.run("doctor", "-j"))
    assert found.code == 0, found.out
    assert {check["name"] for check in found.json} >= {
        "python",
        "disk",
        "nats",
        "postgres",
        "port",
        "sandbox",
        "key",
        "clock",
    }


async def test_rows_folded_anew_are_the_rows_that_were(folder: Folder) -> None:
    before = (await folder.run("runs", "-j")).json
    found = clean(await folder.run("admin", "rebuild-projections"))
    assert found.code == 0
    assert "fold of the log" in found.err
    assert (await folder.run("runs", "-j")).json == before
    assert (await folder.run("admin", "ensure")).code == 0


async def test_nobody_there_is_exit_10(tmp_path: Path) -> None:
    found = clean(await Folder(tmp_path).run("runs", "--api-url", "http://127.0.0.1:1"))
    assert found.code == 10
    assert "hint: start one with `callboard up`" in found.err


async def test_what_was_said_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    async with up(folder) as process:
        assert (await folder.run("run", GOAL, "-q")).code == 0
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(12):
            assert (await ended(process)).code == 0
    assert not (tmp_path / ".callboard/up.json").exists()
    async with up(folder):
        assert (await folder.run("runs", "-j")).json["data"][0]["status"] == "succeeded"


async def test_in_memory_nothing_stays(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    async with up(folder, "--memory"):
        assert (await folder.run("run", GOAL, "-q")).code == 0
    assert [path.name for path in (tmp_path / ".callboard").iterdir()] == []
