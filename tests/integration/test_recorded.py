"""A recorded run goes through today's code with nothing different, and what is different is told with its place."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from events.envelope import Record
from events.subjects import Address, run_scope
from events.tool import ApprovalRequested
from gateway.export import ExportError, export, refold
from gateway.operations import DecideApproval
from tests.doors import open_doors
from tests.history import History
from tests.integration.engine import Rig, cassette, rig, say, step, turns
from tests.stories import Story


async def exported(one: Rig, run: str) -> bytes:
    system = one.systems[0]
    return b"".join([line async for line in export(system.facts, Address("default", run), engine="test")])


async def approved(one: Rig) -> str:
    """Run to the end what writes a file and asks a human."""
    run = await one.start(step("a"), step("b", "a"))
    asked = (await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested)))[-1].fact
    assert isinstance(asked, ApprovalRequested)
    await one.door.decide("default", asked.approval, DecideApproval(decision="respond", comment="blue"), by="ann")
    await one.end(run)
    return run


SCRIPT = cassette(
    a=turns([say("write_file", path="a.txt", content="1"), say("read_file", path="nope.txt")]),
    b=turns([say("ask_human", question="which colour?")]),
)


async def test_every_decision_of_a_run_is_made_again_alike(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, SCRIPT) as one:
        run = await approved(one)
        records = await one.systems[0].facts.load(run_scope("default", run))
        report = refold(await exported(one, run))
        assert report.difference is None
        assert report.records == len(records)
        assert report.decided + report.handed == len(records)
        assert report.folded == {}


EDITS: list[tuple[str, str, Callable[[dict[str, object]], object]]] = [
    ("decision", "step.started", lambda body: body.update(title="another")),
    ("decision", "timer.set", lambda body: body.update(at=1)),
    ("decision", "run.succeeded", lambda body: body.update(summary="another")),
    ("hand-over", "agent.requested", lambda body: body.update(brief="another")),
    ("fold", "step.started", lambda body: body.update(key="nowhere")),
    ("decode", "agent.succeeded", lambda body: body.update(summary=7)),
    ("decode", "agent.succeeded", lambda body: body.pop("summary")),
]


@pytest.mark.parametrize(("what", "name", "edit"), EDITS, ids=[f"{what} {name}" for what, name, _ in EDITS])
async def test_the_first_difference_is_told(
    nats_url: str, tmp_path: Path, what: str, name: str, edit: Callable[[dict[str, object]], object]
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        run = await one.start(step("a"))
        await one.end(run)
        head, *lines = (await exported(one, run)).splitlines()
    at = next(number for number, text in enumerate(lines) if f".{name}." in msgspec.json.decode(text)["subject"])
    line = msgspec.json.decode(lines[at])
    edit(line["body"])
    lines[at] = msgspec.json.encode(line)
    found = refold(b"\n".join([head, *lines])).difference
    assert found is not None
    if what == "fold":  # a decision that differs is seen before it is folded
        assert found.what in ("fold", "decision")
    else:
        assert found.what == what
    assert found.seq == line["seq"]


async def test_a_file_that_is_cut_short_or_none_is_refused(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        run = await one.start(step("a"))
        await one.end(run)
        data = await exported(one, run)
    with pytest.raises(ExportError, match="cut short"):
        refold(b"\n".join(data.splitlines()[:-1]))
    with pytest.raises(ExportError, match="line 1"):
        refold(b"hello\n")
    with pytest.raises(ExportError, match="format 9"):
        refold(data.replace(b'"callboard_export":1', b'"callboard_export":9', 1))
    left_out = data.splitlines()
    del left_out[2]
    report = refold(b"\n".join(left_out))
    assert report.difference is not None
    assert report.difference.what == "version"


async def test_the_export_over_http_is_the_run_as_the_log_has_it(nats_url: str, tmp_path: Path) -> None:
    async with open_doors(nats_url, "", tmp_path) as doors:
        history = History("run_1")
        story = Story(history)
        story.start()
        story.begin("analyze")
        await doors.tell(history)
        answer = await doors.http.get("/v1/runs/run_1/export")
        head, *lines = [msgspec.json.decode(text) for text in answer.content.splitlines()]
        assert (head["callboard_export"], head["run"], head["upto"]) == (1, "run_1", lines[-1]["seq"])
        stored: list[Record] = await doors.system.facts.load(run_scope("default", "run_1"))
        assert [line["seq"] for line in lines] == [record.seq for record in stored]
        assert [msgspec.json.encode(line["body"]) for line in lines] == [record.body for record in stored]
        assert {line["headers"]["ce-type"] for line in lines} == {record.type for record in stored}
        assert (await doors.http.get("/v1/runs/run_9/export")).status_code == 404
