"""Commands as nobody should send them: each is answered with its reason, and none reaches where it must not."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.envelope import REPLY
from events.jetstream.connection import Msg
from tests.integration.engine import Rig, cassette, rig, step, turns
from tests.integration.test_turn_rules import hold


async def answer_to(one: Rig, subject: str, body: bytes) -> Any:
    """Publish to the inbox as an outsider does, and return the answer."""
    bus = one.systems[0].bus
    answered: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, answered.set_result)
    await bus.request(subject, body, headers={REPLY: inbox})
    told = await asyncio.wait_for(answered, 10)
    await subscription.unsubscribe()
    return msgspec.json.decode(told.body)


async def test_a_wildcard_in_a_commands_address_reaches_nobodys_run(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        model = [hold(system) for system in one.systems][1]
        run = await one.start(step("a"), model="held")
        await one.until(run, lambda record: record.type == "model.requested.v1")
        for subject in (
            f"cb.*.cmd.{run}.-.-.cancel",
            "cb.default.cmd.*.-.-.cancel",
            f"cb.default.cmd.{run}.>.-.cancel",
        ):
            assert (await answer_to(one, subject, b'{"id":"cmd_x"}'))["error"]["code"] == "bad_subject"
        assert (await one.door.run_state("default", run)).cancel is None
        model.go.set()
        assert (await one.end(run))[-1].type == "run.succeeded.v1"


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"cmd_x","by":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"id":"cmd_x","by":"\xff"}',
        b"",
        b"\x00",
        b"[]",
        b"NaN",
    ],
)
async def test_a_body_that_is_none_is_refused_and_settled(nats_url: str, tmp_path: Path, body: bytes) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        told = await answer_to(one, "cb.default.cmd.run_1.-.-.cancel", body)
        assert told["error"]["code"] == "bad_body"


async def test_an_answer_is_never_sent_where_it_would_be_a_command_or_reach_many(nats_url: str, tmp_path: Path) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns())) as one:
        bus, heard = one.systems[0].bus, list[str]()
        await bus.subscribe("stolen.>", lambda msg: heard.append(msg.subject))
        for reply in (
            "stolen.*",
            "stolen.>",
            "stolen.a b",
            "stolen.a\tb",
            "cb.default.cmd.r.-.-.cancel",
            "$JS.API.INFO",
        ):
            await bus.request("cb.default.cmd.run_1.-.-.cancel", b"{}", headers={REPLY: reply})
        assert (await answer_to(one, "cb.default.cmd.run_1.-.-.cancel", b"{}"))["error"]["code"] == "bad_body"
        assert heard == []
        assert (await one.end(await one.start(step("a"))))[-1].type == "run.succeeded.v1"
