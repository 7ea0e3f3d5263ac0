"""Command lines: where options may stand, what an id is, and how a request is put together."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.exits import Quit
from gateway.commands.main import hoisted, run_command
from gateway.commands.nouns import is_id
from gateway.commands.run import blueprint_field, request_of, seconds_of
from gateway.commands.screen import look_of
from gateway.settings import Terminal, load_terminal

NOTHING: dict[str, Any] = {"goal": None, "blueprint": None, "model": None, "labels": [], "approve": None}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["runs", "list", "--color", "never"], ["--color", "never", "runs", "list"]),
        (["runs", "--color=never", "-o", "json"], ["--color=never", "runs", "-o", "json"]),
        (["run", "x", "--no-input", "--home", "h"], ["--no-input", "--home", "h", "run", "x"]),
        (["run", "--", "--color"], ["run", "--", "--color"]),
        (["runs", "--color"], ["--color", "runs"]),
    ],
)
def test_options_of_the_root_may_stand_anywhere(typed: list[str], read: list[str]) -> None:
    assert hoisted(typed) == read


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["admin"], 0, "Usage: callboard admin"),
        (["help", "runs", "budget"], 0, "Usage: callboard runs budget"),
        (["help", "dlq"], 0, "Usage: callboard dlq"),
        (["help", "dlq", "nope"], 2, "no help on 'dlq nope'"),
        (["help", "run", "nope"], 2, "no help on 'run nope'"),
        (["run", "x", "--approve", "maybe"], 2, "'--approve': 'maybe' is not one of"),
        (["list", "--label", "team"], 2, "--label: 'team' must be name=value"),
    ],
)
def test_what_is_typed_wrong_or_half_is_told(
    capsys: pytest.CaptureFixture[str], typed: list[str], code: int, said: str
) -> None:
    assert run_command(typed) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


@pytest.mark.parametrize(("text", "found"), [("run_01k", True), ("@last", True), ("list", False), ("run_", False)])
def test_ids_are_told_from_verbs(text: str, found: bool) -> None:
    assert is_id(text) is found


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["x", "10y", "-1s", "0", "nan", "inf", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Quit):
        seconds_of(text)


def test_a_request_is_made_of_its_options() -> None:
    request = request_of(
        None, goal="Build it", blueprint="software", model="opus", labels=["team=blue", "a=b=c"], approve="all"
    )
    assert request == {
        "goal": "Build it",
        "blueprint": "software",
        "model": "opus",
        "labels": {"team": "blue", "a": "b=c"},
        "approvals": "all",
    }


def test_options_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("goal: Build it\nmodel: opus\nlabels: {team: blue}\n")
    request = request_of(file, goal=None, blueprint=None, model="scripted", labels=["x=y"], approve=None)
    assert request == {"goal": "Build it", "model": "scripted", "labels": {"team": "blue", "x": "y"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must be fields"),
        ("goal: [\n", "run.yaml"),
        ("goal: x\nfoo: 1\n", "unknown field 'foo'"),
        ("{}", "no goal"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(Quit, match=said):
        request_of(file, **NOTHING)


def test_a_label_without_a_value_is_refused() -> None:
    with pytest.raises(Quit, match="name=value"):
        request_of(None, goal="x", blueprint=None, model=None, labels=["team"], approve=None)


def test_a_shipped_blueprint_goes_by_its_name() -> None:
    assert blueprint_field("software") == {"blueprint": "software"}


def test_a_blueprint_on_this_disk_is_sent_whole(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "poet.md").write_text("---\nname: poet\ndescription: writes\n---\nYou write.\n")
    (tmp_path / "blueprint.yaml").write_text("name: mine\nsteps:\n  - {id: write, role: poet, task: Write it}\n")
    sent = blueprint_field(f"{tmp_path}/")["definition"]
    assert sent["name"] == "mine"
    assert [step["id"] for step in sent["steps"]] == ["write"]
    assert sent["roles"][0]["prompt"] == "You write."


def test_a_broken_blueprint_on_this_disk_is_told_here(tmp_path: Path) -> None:
    (tmp_path / "blueprint.yaml").write_text("name: mine\nsteps:\n  - {id: write, role: nobody, task: Write it}\n")
    with pytest.raises(Quit, match="nobody"):
        blueprint_field(f"{tmp_path}/blueprint.yaml")


@pytest.mark.parametrize(
    ("environment", "color", "coloured"),
    [
        ({}, "auto", False),
        ({"FORCE_COLOR": "1"}, "auto", True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": ""}, "always", True),
        ({"NO_COLOR": "1"}, "always", True),
        ({"FORCE_COLOR": "1"}, "never", False),
    ],
)
def test_a_flag_beats_no_color_beats_force_color(environment: dict[str, str], color: Any, coloured: bool) -> None:
    assert look_of(StringIO(), color, load_terminal(environment)).colour is coloured


def test_a_dumb_terminal_gets_ascii() -> None:
    class Utf8(StringIO):
        encoding = "utf-8"

    assert look_of(Utf8(), "auto", Terminal()).unicode
    assert not look_of(Utf8(), "auto", Terminal(dumb=True)).unicode
    assert not look_of(StringIO(), "auto", Terminal()).unicode
