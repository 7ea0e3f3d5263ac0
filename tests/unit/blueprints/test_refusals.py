"""A blueprint that could never end well is refused before anything runs, with the place and the way out."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from events.plan import Plan, PlanStep, Retry, faults
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


async def test_a_fallback_role_is_pinned_like_the_first_and_must_be_able_to_end_the_step() -> None:
    able = definition(role="worker", fallback="one")
    roles = await blueprint.pin(blueprint.define(able), model="scripted", blobs=NoBlobs(), workspace="default")
    assert set(roles) == {"worker", "one"}
    unable = definition("read_file", role="worker", fallback="one")
    with pytest.raises(BlueprintError, match=r"steps\[1\]\.fallback: .*finish"):
        await blueprint.pin(blueprint.define(unable), model="scripted", blobs=NoBlobs(), workspace="default")


def test_a_blueprints_file_says_what_follows_a_failure(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    for name in ("dev", "senior"):
        (tmp_path / "roles" / f"{name}.md").write_text(f"---\nname: {name}\n---\nWork.")
    (tmp_path / "blueprint.yaml").write_text(
        "name: tries\ndegrade: true\nsteps:\n  - {id: a, role: dev, task: t, retry: {attempts_max: 5, backoff_seconds: 2},"
        " timeout_seconds: 90, fallback: senior, on_failure: degrade}\n"
    )
    found = blueprint.load(str(tmp_path))
    assert found.degrade
    assert found.plan is not None
    (step,) = found.plan.steps
    assert step.retry == Retry(attempts_max=5, backoff_seconds=2)
    assert (step.timeout_seconds, step.fallback, step.on_failure) == (90, "senior", "degrade")
