"""The examples that the README points to run as they stand there."""

from pathlib import Path

from actors.cassette import load_cassette
from gateway import blueprint
from gateway.models import GENERIC
from gateway.operations import CreateRun
from tests.integration.engine import rig, types

EXAMPLES = Path(__file__).parents[1] / "examples"


async def test_the_haiku_blueprint_runs_as_it_is_sent_by_the_command_line(nats_url: str, tmp_path: Path) -> None:
    haiku = blueprint.load(str(EXAMPLES / "haiku"))
    assert haiku.plan is not None
    definition = blueprint.BlueprintDefinition(
        name=haiku.name, steps=haiku.plan.steps, roles=tuple(haiku.roles.values())
    )
    async with rig(nats_url, tmp_path, load_cassette(GENERIC)) as one:
        request = CreateRun(goal="autumn rain", definition=definition)
        accepted, _ = await one.door.create_run("default", request, by="test")
        records = await one.end(accepted.id)
        assert types(records)[-2:] == ["gate.passed", "run.succeeded"]
        assert set((await one.door.run_state("default", accepted.id)).head) == {"haiku.md"}


def test_the_readme_shows_the_example_as_it_is() -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    for name in ("blueprint.yaml", "roles/poet.md"):
        assert (EXAMPLES / "haiku" / name).read_text().rstrip() in readme
