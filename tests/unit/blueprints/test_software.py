"""The software blueprint: nine roles in the order that reviews before it releases, and a demo cassette that fits it."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from actors.cassette import CallLine, FileText, StepLine
from actors.scripted import load_cassette
from events.plan import ancestors, faults
from gateway.blueprint import SHIPPED, RoleFile, load, planning
from toolbox.registry import granted, registry

DEMO = SHIPPED / "software" / "demo"
BLUEPRINT = load("software")
ROLES = BLUEPRINT.roles
assert BLUEPRINT.plan
PLAN = BLUEPRINT.plan
CASSETTE = load_cassette(DEMO / "cassette.yaml")


def _calls(line: StepLine) -> Iterator[CallLine]:
    for turn in line.turns:
        for variant in turn.first_of or (turn,):
            yield from variant.calls


def test_the_plan_has_no_faults_and_uses_all_nine_roles():
    assert faults(PLAN, ROLES) == []
    assert {step.role for step in PLAN.steps} == set(ROLES)
    assert len(ROLES) == 9


def test_code_review_comes_before_security_review_and_both_before_the_release():
    before = ancestors(PLAN)
    assert {"backend", "frontend"} <= before["code-review"]
    assert "code-review" in before["security-review"]
    assert "security-review" in before["release"]


def test_backend_and_frontend_wait_for_the_same_steps_and_not_for_each_other():
    before = ancestors(PLAN)
    assert before["backend"] == before["frontend"]


@pytest.mark.parametrize("role", planning().roles.values(), ids=lambda role: role.name)
def test_a_role_says_what_it_is_for_and_how_it_ends(role: RoleFile):
    assert role.description.endswith(".")
    assert granted(role.tools, registry())
    ending = next(tool for tool in ("submit_verdict", "submit_plan", "finish") if tool in role.tools)
    assert ending in role.prompt


def test_gates_are_kept_by_roles_that_give_verdicts():
    for step in PLAN.steps:
        assert ("submit_verdict" in ROLES[step.role].tools) == (step.gate is not None)


def test_every_step_has_its_lines_in_the_cassette():
    assert {(line.step, line.role) for line in CASSETTE.steps} == {(step.id, step.role) for step in PLAN.steps}


def test_the_cassette_asks_only_for_tools_that_the_role_may_use():
    for line in CASSETTE.steps:
        assert {call.tool for call in _calls(line)} <= set(ROLES[line.role].tools), line.step


def test_the_cassette_gives_each_tool_the_arguments_it_takes():
    tools = registry()
    for line in CASSETTE.steps:
        for call in _calls(line):
            assert msgspec.convert(_plain(call.arguments), tools[call.tool].arguments)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.text if isinstance(value, FileText) else value for name, value in arguments.items()}


def test_every_file_of_the_demo_is_written_by_someone():
    written = {
        value.text for line in CASSETTE.steps for call in _calls(line) for value in call.arguments.values()
        if isinstance(value, FileText)
    }  # fmt: skip
    files = [path for path in (DEMO / "files").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 15
    assert [path for path in files if path.read_text() not in written] == []


def test_the_review_points_at_the_line_with_the_bug():
    findings = [
        finding
        for line in CASSETTE.steps
        for call in _calls(line)
        if call.tool == "submit_verdict"
        for finding in call.arguments.get("findings", [])
        if finding.get("line")
    ]
    assert findings
    for finding in findings:
        lines = (DEMO / "files" / finding["path"]).read_text().splitlines()
        assert lines[finding["line"] - 1].strip() == "if done:"


def test_the_repair_finds_each_text_that_it_replaces_just_once():
    edits = [call.arguments for line in CASSETTE.steps for call in _calls(line) if call.tool == "edit_file"]
    assert {edit["path"] for edit in edits} == {"app/server/store.py", "tests/test_backend.py"}
    for edit in edits:
        assert (DEMO / "files" / edit["path"]).read_text().count(edit["old"]) == 1


def test_the_demo_is_played_in_at_most_seventy_turns():
    assert sum(len(line.turns) for line in CASSETTE.steps) <= 70


def test_the_validation_commands_are_python_that_compiles():
    for step in PLAN.steps:
        for argv in step.validate:
            assert argv[0] == "python3"
            if argv[1] == "-c":
                compile(argv[2], step.id, "exec")
    assert msgspec.json.encode(PLAN)
