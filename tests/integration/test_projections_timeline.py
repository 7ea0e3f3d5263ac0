"""The timeline and usage as rows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from events.door import KeyClaimed
from events.fact import Usage
from projections.rebuild import dump
from projections.store import Store, open_store
from projections.timeline import event, timeline
from projections.usage import UsageGroup, usage_by
from tests.history import History
from tests.projected import project
from tests.stories import MODEL, USED, Story, many


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


async def test_the_timeline_is_the_log_byte_for_byte(store: Store):
    history = many(4)
    await project(store, history.records)
    for workspace in ("default", "other"):
        ours = [record for record in history.records if record.address.workspace == workspace]
        rows = await timeline(store, workspace, limit=500)
        assert [(row.seq, row.type, row.time, row.id, row.causation) for row in rows] == [
            (record.seq, record.type, record.time_ms, record.id, record.causation) for record in ours
        ]
        assert [bytes(row.body) for row in rows] == [record.body for record in ours]


async def test_a_runs_timeline_is_paged_by_sequence_and_filtered_by_type(store: Store):
    history = many(3)
    await project(store, history.records)
    ours = [record.seq for record in history.records if record.address.run == "run_0"]
    first = await timeline(store, "default", run="run_0", limit=10)
    rest = await timeline(store, "default", run="run_0", after=first[-1].seq, limit=500)
    assert [row.seq for row in (*first, *rest)] == ours
    some = await timeline(store, "default", run="run_0", types=["run.started", "step.started.v1"], limit=500)
    assert {row.type for row in some} == {"run.started.v1", "step.started.v1"}


async def test_one_fact_is_found_by_its_sequence_in_its_workspace_only(store: Store):
    history = History()
    Story(history)
    await project(store, history.records)
    found = await event(store, "default", 1)
    assert found is not None
    assert (found.run, found.step, found.to) == ("run_1", "-", "run")
    assert await event(store, "other", 1) is None
    assert await event(store, "default", 2) is None


async def test_an_idempotency_key_is_in_the_timeline_and_nowhere_else(store: Store):
    history = History("-")
    history.agent("idem_0", KeyClaimed(digest="d", makes="run_9"))
    await project(store, history.records)
    [row] = await timeline(store, "default")
    assert (row.run, row.step, row.type) == ("-", "idem_0", "key.claimed.v1")
    assert {name for name, rows in (await dump(store)).items() if rows} == {"timeline"}


async def test_usage_is_summed_by_run_model_role_step_and_day(store: Store):
    history = History(began_ms=int(datetime(2026, 11, 21, 23, 59, 58, tzinfo=UTC).timestamp() * 1000))
    story = Story(history)
    story.begin("backend", "backend")
    story.begin("frontend", "frontend")
    story.tick("backend", 1, calls=0)
    story.tick("frontend", 1, calls=0)
    story.fail_model("frontend", 2)
    await project(store, history.records)

    async def by(group: UsageGroup, run: str | None = None, since: str = "2026-01-01") -> dict[str, Usage]:
        return {row.group: row.usage for row in await usage_by(store, "default", group, run=run, since=since)}

    failed = Usage(model_calls=1)
    assert await by("run") == {"run_1": USED + USED + failed}
    assert await by("model") == {MODEL: USED + USED + failed}
    assert await by("role") == {"backend": USED, "frontend": USED + failed}
    assert await by("step") == {story.id_of("backend"): USED, story.id_of("frontend"): USED + failed}
    assert await by("day") == {"2026-11-21": USED, "2026-11-22": USED + failed}
    assert await by("run", since="2026-11-22") == {"run_1": USED + failed}
    assert await by("run", run="run_2") == {}
    assert await usage_by(store, "other", "run") == []
