"""`callboard runs export` and `runs replay` as a user has them."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.system.cli import Folder, up

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Folder]:
    made = Folder(tmp_path_factory.mktemp("recorded"))
    async with up(made):
        yield made


async def test_a_run_is_written_to_a_file_and_folds_to_the_same_there_and_here(folder: Folder) -> None:
    assert (await folder.run("run", "write a haiku about logs")).code == 0
    written = await folder.run("runs", "export", "@last", "one.jsonl")
    assert written.code == 0, written.err
    piped = await folder.run("runs", "export", "@last")
    assert piped.out == (folder.path / "one.jsonl").read_text()
    here = await folder.run("runs", "replay", "@last", "-o", "json")
    there = await folder.run("runs", "replay", "one.jsonl", "-o", "json")
    assert (here.code, there.code) == (0, 0)
    assert here.json == there.json
    assert (here.json["difference"], here.json["folded"]) == (None, {})
    shown = await folder.run("runs", "replay", "one.jsonl")
    assert "the same as recorded" in shown.out


async def test_a_difference_is_exit_code_5_and_a_file_of_another_kind_2(folder: Folder) -> None:
    assert (await folder.run("run", "write a haiku about files")).code == 0
    data = (await folder.run("runs", "export", "@last")).out
    (folder.path / "other.jsonl").write_text(data.replace('"title":"', '"title":"not ', 1))
    found = await folder.run("runs", "replay", "other.jsonl")
    assert found.code == 5
    assert "first difference" in found.out
    (folder.path / "none.jsonl").write_text("hello")
    refused = await folder.run("runs", "replay", "none.jsonl")
    assert (refused.code, "no exported run" in refused.err) == (2, True)
    missing = await folder.run("runs", "replay", "missing.jsonl")
    assert (missing.code, "no file" in missing.err) == (2, True)
