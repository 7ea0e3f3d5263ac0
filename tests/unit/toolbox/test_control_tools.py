"""Artifacts, releases, verdicts, plans and the end of a step."""

import io
import zipfile
from typing import Any

import pytest

from tests.unit.toolbox.parts import a_branch, text_of, use
from toolbox.artifacts import publish_release, save_artifact
from toolbox.control import finish, submit_plan, submit_verdict
from toolbox.errors import ToolError
from toolbox.tool import Artifact


async def test_a_file_is_published_with_its_bytes() -> None:
    branch = await a_branch({"docs/plan.md": "# Plan"})
    entry = branch.entry("docs/plan.md")
    assert entry is not None
    output = await use(save_artifact, branch, path="docs/plan.md", title="The plan")
    assert output.artifacts == (
        Artifact(name="docs/plan.md", media_type="text/markdown", sha=entry.sha, size=6, title="The plan"),
    )
    assert branch.changes() == {}


async def test_an_artifact_may_be_written_as_it_is_published() -> None:
    branch = await a_branch()
    output = await use(save_artifact, branch, path="a.weird", content="text")
    assert await text_of(branch, "a.weird") == "text"
    assert (output.artifacts[0].media_type, output.artifacts[0].title) == ("application/octet-stream", "a.weird")


async def test_what_is_not_there_is_not_published() -> None:
    with pytest.raises(ToolError) as refusal:
        await use(save_artifact, await a_branch(), path="nothing.md")
    assert refusal.value.code == "not_found"


async def test_a_release_of_the_same_files_has_the_same_bytes() -> None:
    packed: list[bytes] = []
    for names in (["b.py", "a.py"], ["a.py", "b.py"]):
        branch = await a_branch({name: f"# {name}\n" for name in names} | {"notes.md": "no", "releases/old.zip": "no"})
        await branch.write("run.sh", b"#!/bin/sh\n", 0o755)
        output = await use(publish_release, branch, name="todo", version="1.0.0", include=["*.py", "run.sh"])
        assert output.artifacts[0].name == "releases/todo-1.0.0.zip"
        packed.append(await branch.read("releases/todo-1.0.0.zip"))
    assert packed[0] == packed[1]
    with zipfile.ZipFile(io.BytesIO(packed[0])) as archive:
        assert archive.namelist() == ["todo-1.0.0/a.py", "todo-1.0.0/b.py", "todo-1.0.0/run.sh"]
        assert archive.read("todo-1.0.0/a.py") == b"# a.py\n"
        assert [member.external_attr >> 16 for member in archive.infolist()] == [0o100644, 0o100644, 0o100755]


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "../x", "version": "1"},
        {"name": "x", "version": "1/../../y"},
        {"name": "X", "version": "1"},
        {"name": "x\n", "version": "1"},
        {"name": "x", "version": "1", "include": []},
        {"name": "x", "version": "1", "include": ["*.rs"]},
    ],
)
async def test_a_release_with_a_bad_name_or_nothing_in_it_is_refused(arguments: dict[str, Any]) -> None:
    branch = await a_branch({"a.py": ""})
    with pytest.raises(ToolError):
        await use(publish_release, branch, None, **({"include": ["**"]} | arguments))
    assert branch.changes() == {}


async def test_a_verdict_is_data() -> None:
    finding = {
        "step": "backend",
        "message": "delete does not check the id",
        "path": "app.py",
        "line": 7,
        "severity": "high",
    }
    output = await use(submit_verdict, await a_branch(), passed=False, summary="one bug", findings=[finding])
    assert output.data == {"passed": False, "summary": "one bug", "findings": [finding]}


async def test_a_verdict_that_sends_work_back_says_why() -> None:
    with pytest.raises(ToolError, match="findings"):
        await use(submit_verdict, await a_branch(), passed=False, summary="no")


STEP = {"id": "build", "role": "backend", "task": "Build it"}


async def test_a_plan_comes_back_whole() -> None:
    steps = [
        STEP,
        {**STEP, "id": "review", "needs": ["build"], "gate": {"rework": ["build"]}, "validate": [["python3", "-V"]]},
    ]
    output = await use(submit_plan, await a_branch(), steps=steps)
    full = {"title": "", "needs": [], "expects": [], "writes": [], "validate": [], "gate": None} | {
        "retry": None,
        "timeout_seconds": None,
        "fallback": "",
        "on_failure": "fail",
    }
    assert output.data == {
        "steps": [full | STEP, full | steps[1] | {"gate": {"rework": ["build"], "rounds": 2}}],
    }


async def test_a_plan_with_faults_is_refused_with_all_of_them() -> None:
    def check(plan: Any) -> list[str]:
        return [f"steps[{index}].role: unknown" for index in range(len(plan))]

    with pytest.raises(ToolError, match=r"- steps\[0\]\.role: unknown\n- steps\[1\]") as refusal:
        await use(submit_plan, await a_branch(), {"check_plan": check}, steps=[STEP, STEP])
    assert refusal.value.code == "plan_refused"


async def test_a_plan_of_the_wrong_shape_is_refused_with_the_place() -> None:
    with pytest.raises(ToolError, match=r"steps\[1\]\.gate: .*`rework`"):
        await use(submit_plan, await a_branch(), steps=[STEP, {**STEP, "gate": {}}])


async def test_a_step_ends_when_its_files_are_there() -> None:
    branch = await a_branch({"a.md": ""})
    with pytest.raises(ToolError, match=r"must leave b\.md") as refusal:
        await use(finish, branch, {"expects": ("a.md", "b.md")}, summary="done")
    assert refusal.value.code == "missing_files"
    assert (await use(finish, branch, {"expects": ("a.md",)}, summary="done")).data == {"summary": "done"}
