"""Artifacts and files as rows."""

from collections.abc import AsyncIterator

import pytest

from projections.artifacts import artifact, artifacts, files, versions
from projections.store import Store, open_store
from tests.history import History
from tests.projected import project
from tests.stories import Story, sha


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


def published(*texts: str) -> Story:
    """A step that succeeds again and again, and publishes one name each time."""
    story = Story(History())
    for text in texts:
        story.begin("backend")
        story.succeed("backend", artifacts={"docs/a.md": text})
    return story


async def test_an_artifact_has_a_version_for_each_change_of_its_bytes(store: Store):
    story = published("one", "one", "two", "one")
    await project(store, story.history.records)
    found = await versions(store, "default", "run_1", "docs/a.md")
    assert [(row.version, row.sha, row.attempt) for row in found] == [
        (1, sha("one"), 1),
        (2, sha("two"), 3),
        (3, sha("one"), 4),
    ]
    assert len({row.id for row in found}) == 3
    assert await artifact(store, "default", found[1].id) == found[1]
    assert await artifact(store, "other", found[1].id) is None
    assert (found[0].media_type, found[0].title, found[0].step, found[0].size) == (
        "text/markdown",
        "Docs/A.Md",
        "backend",
        3,
    )


async def test_the_list_holds_the_last_version_of_each_artifact_and_pages(store: Store):
    story = published("one", "two")
    story.begin("frontend")
    story.succeed("frontend", artifacts={f"page/{number}.md": str(number) for number in range(5)})
    story.begin("review", "reviewer")
    story.pass_gate("review", artifacts={"review.md": "good"})
    await project(store, story.history.records)
    found: list[tuple[str, int]] = []
    after = None
    while True:
        page = await artifacts(store, "default", run="run_1", after=after, limit=2)
        found += [(row.name, row.version) for row in page.data]
        if (after := page.next_cursor) is None:
            break
    assert found == [("docs/a.md", 2), *[(f"page/{number}.md", 1) for number in range(5)], ("review.md", 1)]
    assert [row.name for row in (await artifacts(store, "default", step="review")).data] == ["review.md"]
    assert (await artifacts(store, "default", media_type="image/png")).data == []
    assert (await artifacts(store, "other")).data == []


async def test_files_are_the_head_of_the_run_with_removed_ones_gone(store: Store):
    story = Story(History())
    story.begin("backend")
    story.succeed("backend", files={"b/x.py": "one", "a.py": "one", "gone.py": "one"})
    story.begin("frontend")
    story.succeed("frontend", files={"a.py": "two", "gone.py": None, "never.py": None})
    await project(store, story.history.records)
    found = await files(store, "default", "run_1")
    assert [(row.path, row.sha, row.mode, row.size, row.step) for row in found] == [
        ("a.py", sha("two"), 0o644, 3, "frontend"),
        ("b/x.py", sha("one"), 0o644, 3, "backend"),
    ]
    assert await files(store, "other", "run_1") == []


async def test_a_conflicted_result_leaves_no_files(store: Store):
    story = Story(History())
    story.begin("backend")
    story.conflict("backend", "a.py")
    await project(store, story.history.records)
    assert await files(store, "default", "run_1") == []
