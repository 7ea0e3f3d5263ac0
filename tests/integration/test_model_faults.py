"""A provider that refuses, hangs or breaks off: tried again as the run's limits say, and never a call made of half an answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.cassette import Cassette
from actors.model import Answer, Delta, ModelRequest, ToolUse, Usage
from events.agent import AgentFailed, ModelFailed
from events.envelope import Record
from events.run import Limits
from gateway.models import Models
from gateway.system import System
from tests.fakes.messages_api import MessagesApi
from tests.fakes.messages_sse import Fault, Reply, use
from tests.integration.engine import cassette, rig, say, step, types

QUICK = Limits(attempts_max=1, model_backoff_ms=10)


def failures(records: list[Record]) -> list[ModelFailed]:
    return [record.fact for record in records if isinstance(record.fact, ModelFailed)]


def failing(**fails: Any) -> Cassette:
    """Return a cassette whose provider refuses the first turn before it answers."""
    return cassette(a=[{"fails": fails, "calls": [say("finish", summary="done")]}])


async def test_a_provider_that_comes_back_is_asked_again_after_growing_waits(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, failing(status=529, times=3)) as one:
        records = await one.end(await one.start(step("a"), limits=QUICK))
    assert records[-1].type == "run.succeeded.v1"
    assert [fact.code for fact in failures(records)] == ["overloaded"] * 3
    asked = [record.time_ms for record in records if record.type == "model.requested.v1"]
    waits = [fact.retry_at for fact in failures(records)]
    assert all(at >= wait for at, wait in zip(asked[1:], waits, strict=True))


async def test_a_provider_that_stays_down_fails_the_step_when_the_attempts_are_used_up(
    nats_url: str, tmp_path: Path
) -> None:
    limits = msgspec.structs.replace(QUICK, model_attempts_max=4)
    async with rig(nats_url, tmp_path, failing(status=503, times=0)) as one:
        records = await one.end(await one.start(step("a"), limits=limits))
    assert len(failures(records)) == 4
    assert failures(records)[-1].retry_at == 0
    ended = [record.fact for record in records if isinstance(record.fact, AgentFailed)]
    assert [end.code for end in ended] == ["provider_error"]
    assert ended[0].reason.startswith("the model gave no answer in 4 tries")


async def test_a_provider_that_names_the_wait_is_asked_no_sooner(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, failing(status=429, retry_after=1)) as one:
        records = await one.end(await one.start(step("a"), limits=QUICK))
    (failed,) = failures(records)
    when = next(record.time_ms for record in records if record.fact == failed)
    assert failed.code == "rate_limited"
    assert failed.retry_at - when >= 900


async def test_a_refusal_that_stays_one_is_not_tried_again(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, failing(status=401, times=9)) as one:
        records = await one.end(await one.start(step("a"), limits=QUICK))
    assert [(fact.code, fact.retry_at) for fact in failures(records)] == [("unauthorized", 0)]


class Hanging:
    """A model that hangs when it is first asked: silent, or with signs of life for ever. Then it answers."""

    def __init__(self, *, alive: bool) -> None:
        self.alive = alive
        self.closed = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        if request.attempt_at_turn == 1:
            try:
                while True:
                    await asyncio.sleep(0.2 if self.alive else 3600)
                    yield Delta("")
            finally:
                self.closed += 1
        finish = ToolUse(id="use_1", name="finish", arguments=msgspec.Raw(b'{"summary":"done"}'))
        yield Answer(blocks=(finish,), stop="tool_use", usage=Usage(), model="hanging")


def hang(system: System, *, alive: bool) -> Hanging:
    model = Hanging(alive=alive)
    system.models = Models(
        system.settings, cassette=Cassette.from_dict({"steps": [{"turns": [{"say": "-"}]}]}), hanging=model
    )
    return model


@pytest.mark.parametrize(("alive", "code"), [(False, "idle_timeout"), (True, "total_timeout")])
async def test_a_model_that_hangs_is_stopped_and_asked_again(
    nats_url: str, tmp_path: Path, *, alive: bool, code: str
) -> None:
    limits = msgspec.structs.replace(QUICK, model_seconds_max=2, model_idle_seconds=1)
    async with rig(nats_url, tmp_path, failing(status=500), workers=0) as one:
        model = hang(one.systems[0], alive=alive)
        one.work(0)
        records = await one.end(await one.start(step("a"), model="hanging", limits=limits))
    assert [fact.code for fact in failures(records)] == [code]
    assert model.closed == 1
    assert records[-1].type == "run.succeeded.v1"


@pytest.mark.parametrize("what", ["cut", "reset", "garbage"])
async def test_half_an_answer_calls_no_tool(nats_url: str, tmp_path: Path, what: Any) -> None:
    write = use("t1", "write_file", path="a.txt", content="half")
    finish = use("t2", "finish", summary="done")
    async with MessagesApi([Reply((write,), fault=Fault(what, after=4)), Reply((finish,))]) as api:
        script = failing(status=500)
        async with rig(nats_url, tmp_path, script, anthropic_api_key="k", anthropic_base_url=api.url) as one:
            records = await one.end(await one.start(step("a"), model="sonnet", limits=QUICK))
    assert records[-1].type == "run.succeeded.v1"
    assert len(failures(records)) == 1
    assert types(records).count("tool.requested") == 1
    assert len(api.requests) == 2
