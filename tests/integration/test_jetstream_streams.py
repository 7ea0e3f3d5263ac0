"""The streams are made as they must be, and others are refused by name."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from events.jetstream.api import CALLBOARD, CALLBOARD_INBOX, Answer, ApiError, ask
from events.jetstream.connection import Bus, connect
from events.jetstream.log import JetStreamLog
from events.jetstream.streams import INBOX_SETTINGS, LOG_SETTINGS, ServerTooOld, StreamDiffers, ensure_streams
from events.subjects import workspace_scope
from tests.contract.log_contract import RUN, entry
from tests.integration.fake_nats import FakeServer


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(nats_url, name="streams") as bus:
        yield bus


async def info(bus: Bus, verb: str) -> dict[str, Any]:
    reply = await bus.request(f"$JS.API.{verb}", b"")
    return msgspec.json.decode(reply.body)


async def test_both_streams_are_made_with_their_settings(bus: Bus) -> None:
    await ensure_streams(bus)

    config = (await info(bus, f"STREAM.INFO.{CALLBOARD}"))["config"]
    assert config["subjects"] == ["cb.*.evt.>"]
    assert config["republish"] == {"src": "cb.*.evt.>", "dest": "live.cb.{{wildcard(1)}}.evt.>"}
    for field in ("deny_delete", "allow_direct"):
        assert config[field] is True
    assert (config["deny_purge"], config["discard"], config["retention"]) == (False, "new", "limits")
    assert config["max_consumers"] > 1000

    config = (await info(bus, f"STREAM.INFO.{CALLBOARD_INBOX}"))["config"]
    assert config["subjects"] == ["cb.*.cmd.>", "cb.*.tmr.>"]
    assert (config["retention"], config["allow_msg_schedules"], config["allow_msg_ttl"]) == ("workqueue", True, True)
    assert (config["max_msgs"], config["max_bytes"], config["max_age"]) == (-1, -1, 0)

    consumer = (await info(bus, f"CONSUMER.INFO.{CALLBOARD_INBOX}.inbox"))["config"]
    assert (consumer["filter_subject"], consumer["ack_policy"]) == ("cb.*.cmd.>", "explicit")
    assert (consumer["ack_wait"], consumer["max_deliver"]) == (3_000_000_000, -1)


async def test_made_twice_and_at_the_same_time_is_no_matter(bus: Bus) -> None:
    await asyncio.gather(*(ensure_streams(bus) for _ in range(5)))
    await ensure_streams(bus)


async def test_what_is_there_is_kept(bus: Bus) -> None:
    await ensure_streams(bus)
    log = JetStreamLog(bus)
    await log.append(entry(RUN, 1), expected=0)
    await ensure_streams(bus)
    assert await log.end() == 1


@pytest.mark.parametrize(
    ("stream", "field", "value"),
    [
        (CALLBOARD, "discard", "old"),
        (CALLBOARD, "storage", "memory"),
        (CALLBOARD, "deny_delete", False),
        (CALLBOARD, "deny_purge", True),
        (CALLBOARD, "allow_direct", False),
        (CALLBOARD, "max_consumers", 500),
        (CALLBOARD, "subjects", ["cb.*.evt.*"]),
        (CALLBOARD, "republish", {"src": "cb.*.evt.>", "dest": "elsewhere.>"}),
        (CALLBOARD_INBOX, "max_msgs", 10),
        (CALLBOARD_INBOX, "max_age", 3_600_000_000_000),
        (CALLBOARD_INBOX, "allow_msg_schedules", False),
        (CALLBOARD_INBOX, "retention", "limits"),
    ],
)
async def test_a_stream_with_another_setting_is_refused_by_that_field(
    bus: Bus, stream: str, field: str, value: object
) -> None:
    settings = LOG_SETTINGS if stream == CALLBOARD else INBOX_SETTINGS
    await ask(bus, f"STREAM.CREATE.{stream}", {"name": stream, **settings, field: value}, answer=Answer)
    with pytest.raises(StreamDiffers) as differs:
        await ensure_streams(bus)
    assert (differs.value.stream, differs.value.field) == (stream, field)
    assert "must be" in str(differs.value)


async def test_what_an_operator_adds_is_let_be(bus: Bus) -> None:
    added = {"max_bytes": 1 << 20, "metadata": {"team": "a"}, "description": "ours"}
    await ask(bus, f"STREAM.CREATE.{CALLBOARD}", {"name": CALLBOARD, **LOG_SETTINGS, **added}, answer=Answer)
    await ensure_streams(bus)


async def test_more_copies_than_a_lone_server_can_keep_are_refused_in_its_words(bus: Bus) -> None:
    with pytest.raises(ApiError, match="replicas"):
        await ensure_streams(bus, replicas=3)


async def test_facts_are_published_again_for_whoever_watches(bus: Bus) -> None:
    await ensure_streams(bus)
    seen: asyncio.Queue[str] = asyncio.Queue()
    await bus.subscribe("live.cb.acme.evt.*.*.*.run.started.>", lambda msg: seen.put_nowait(msg.subject))
    await bus.flush()
    await JetStreamLog(bus).append(entry(RUN, 1, to="run"), expected=0)
    assert await seen.get() == "live.cb.acme.evt.run_1.-.-.run.started.run"


async def test_nobody_can_delete_a_single_fact(bus: Bus) -> None:
    await ensure_streams(bus)
    log = JetStreamLog(bus)
    await log.append(entry(RUN, 1), expected=0)
    with pytest.raises(ApiError):
        await ask(bus, f"STREAM.MSG.DELETE.{CALLBOARD}", {"seq": 1}, answer=Answer)
    assert len(await log.load(workspace_scope("acme"))) == 1


@pytest.mark.parametrize("version", ["2.9.10", "2.14.3", "2.2.1-beta.1", "1.4.1", "x"])
async def test_an_old_server_is_refused_with_its_version(version: str) -> None:
    async with FakeServer(version=version) as server, connect(server.url, name="x") as bus:
        with pytest.raises(ServerTooOld) as old:
            await ensure_streams(bus)
        assert old.value.version == version
        assert "2.15" in str(old.value)
