"""A pytest plugin that keeps what real workers did: each run of each rig, exported as the test that made it ends.

python -m pytest tests/integration -p tests.histories.recorder --keep-histories FOLDER
"""

from pathlib import Path

import pytest

from events.jetstream.log import JetStreamLog
from events.log import Log
from events.subjects import Address, workspace_scope
from gateway.export import export
from gateway.system import System
from tests.integration import engine


class Keeper:
    """Writes the runs of a rig into a folder, under the name of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = ""

    async def __call__(self, system: System) -> None:
        """Export every run of the default workspace, and what belongs to none."""
        facts = JetStreamLog(system.bus)
        for number, run in enumerate(await _runs(facts)):
            lines = [line async for line in export(facts, Address("default", run), engine="recorded")]
            name = f"{self.name}.{number if run != '-' else 'none'}.jsonl"
            self.folder.joinpath(name).write_bytes(b"".join(lines))


async def _runs(facts: Log) -> list[str]:
    return list(dict.fromkeys(record.address.run for record in await facts.load(workspace_scope("default"))))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-histories", type=Path, default=None)


def pytest_configure(config: pytest.Config) -> None:
    folder: Path | None = config.getoption("--keep-histories")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        engine.keepers.append(Keeper(folder))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for keeper in engine.keepers:
        assert isinstance(keeper, Keeper)
        keeper.name = (
            item.name.removeprefix("test_").replace("[", "-").replace("]", "").replace(" ", "-").replace("/", "-")
        )
