"""A blueprint that could never end well is refused before anything runs, with the place and the way out."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from events.plan import Plan, PlanStep, faults
from gateway import blueprint
from gateway.blueprint import BlueprintDefinition, BlueprintError, RoleFile


class NoBlobs:
    """Keeps nothing: only whether a blueprint is taken matters here."""

    async def put(self, workspace: str, data: bytes) -> str:
        return hashlib.sha256(workspace.encode() + data).hexdigest()

    async def get(self, workspace: str, sha: str) -> bytes:
        raise KeyError((workspace, sha))


def definition(*tools: str, **step: object) -> BlueprintDefinition:
    steps = ({"id": "first", "role": "worker", "task": "x"}, {"id": "a", "role": "one", "task": "do it"} | step)
    made = msgspec.convert(steps, tuple[PlanStep, ...])
    roles = (RoleFile("worker", "", "Work."), RoleFile("one", "", "Be one.", tools))
    return BlueprintDefinition(name="test", steps=made, roles=roles)


@pytest.mark.parametrize(
    ("tools", "step", "missing"),
    [
        (("read_file",), {}, "finish"),
        (("read_file", "finish"), {"needs": ["first"], "gate": {"rework": ["first"]}}, "submit_verdict"),
    ],
)
async def test_a_role_without_the_tool_that_ends_its_step_is_refused(
    tools: tuple[str, ...], step: dict[str, object], missing: str
) -> None:
    found = blueprint.define(definition(*tools, **step))
    with pytest.raises(BlueprintError, match=rf"steps\[1\].role: .* {missing}, which role 'one' lacks"):
        await blueprint.pin(found, model="scripted", blobs=NoBlobs(), workspace="default")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.md", "a/../b", ""])
def test_a_path_outside_the_runs_files_is_refused(path: str) -> None:
    for field in ("expects", "writes"):
        step = msgspec.structs.replace(PlanStep(id="a", role="one", task="x"), **{field: (path,)})
        (fault,) = faults(Plan(steps=(step,)), ["one"])
        assert fault.startswith(f"steps[0].{field}[0]: ")


def test_a_blueprint_without_role_files_says_where_they_go(tmp_path: Path) -> None:
    (tmp_path / "blueprint.yaml").write_text("name: x\nsteps:\n  - {id: a, role: author, task: write}\n")
    with pytest.raises(BlueprintError, match="role files stand in roles/"):
        blueprint.load(str(tmp_path))
