"""The two streams: made with exactly these settings, or found with them; with others we refuse to work.

StreamDiffers    a stream has another setting than ours
ServerTooOld     the server lacks what we rely on
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from events.jetstream.api import (
    CALLBOARD,
    CALLBOARD_INBOX,
    CONSUMER_EXISTS,
    SECOND,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    Answer,
    ApiError,
    ask,
)
from events.jetstream.connection import Bus
from events.log import LogError
from events.subjects import EVERY_COMMAND, EVERY_FACT, EVERY_TIMER, LIVE_SOURCE, LIVE_TARGET

SERVER_MIN: Final = (2, 15)
CONSUMERS_MAX: Final = 1_000_000
INBOX_CONSUMER: Final = "inbox"
ACK_WAIT_SECONDS: Final = 3.0
"""Twice this is under ten seconds: what a killed worker held may come to a stopped one before it comes to a living one."""
ACK_PENDING_MAX: Final = 20_000
BEGINNING: Final = ("deliver_policy", "opt_start_seq")
"""The settings of a consumer that can never change."""

LOG_SETTINGS: Final[Mapping[str, Any]] = {
    "subjects": [EVERY_FACT],
    "storage": "file",
    "retention": "limits",
    "discard": "new",
    "max_consumers": CONSUMERS_MAX,
    "allow_direct": True,
    "deny_delete": True,
    "deny_purge": False,
    "republish": {"src": LIVE_SOURCE, "dest": LIVE_TARGET},
}
INBOX_SETTINGS: Final[Mapping[str, Any]] = {
    "subjects": [EVERY_COMMAND, EVERY_TIMER],
    "storage": "file",
    "retention": "workqueue",
    "max_consumers": CONSUMERS_MAX,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "allow_msg_schedules": True,
    "allow_msg_ttl": True,
}


class StreamDiffers(LogError):
    """A stream is there with a setting that is not ours."""

    def __init__(self, stream: str, field: str, found: object, should: object) -> None:
        self.stream = stream
        self.field = field
        super().__init__(
            f"stream {stream}: {field} is {found!r} and must be {should!r}; "
            f"change it with `nats stream edit {stream}`, or name another server or account"
        )


class ServerTooOld(LogError):
    """The NATS server is older than what we rely on."""

    def __init__(self, version: str) -> None:
        self.version = version
        needed = ".".join(str(part) for part in SERVER_MIN)
        super().__init__(f"nats-server {version} is too old; {needed} or newer is needed")


class _Configured(Answer, frozen=True):
    config: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


def work_consumer(name: str, subject: str, *, ack_wait_seconds: float) -> dict[str, Any]:
    """Return the settings of a durable consumer of work: everything from the start, until acked, however often."""
    return {
        "durable_name": name,
        "name": name,
        "filter_subject": subject,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": round(ack_wait_seconds * SECOND),
        "max_deliver": -1,
        "max_ack_pending": ACK_PENDING_MAX,
    }


async def ensure_streams(
    bus: Bus, *, replicas: int = 1, ack_wait_seconds: float = ACK_WAIT_SECONDS, log_bytes_max: int = 0
) -> None:
    """Make the streams and the inbox's consumer where they are missing, and check those that are there.

    A log made here takes `log_bytes_max` bytes (0: no limit); one that takes fewer is given that much.

    Raises ServerTooOld, StreamDiffers, LogUnavailable.
    """
    _check_version(bus.server_version)
    await _ensure(bus, CALLBOARD, {**LOG_SETTINGS, "num_replicas": replicas}, making={"max_bytes": log_bytes_max or -1})
    await _widen(bus, log_bytes_max)
    await _ensure(bus, CALLBOARD_INBOX, {**INBOX_SETTINGS, "num_replicas": replicas})
    config = work_consumer(INBOX_CONSUMER, EVERY_COMMAND, ack_wait_seconds=ack_wait_seconds)
    await put_consumer(bus, CALLBOARD_INBOX, config)


async def put_consumer(bus: Bus, stream: str, config: Mapping[str, Any]) -> None:
    """Make a consumer, or bring the one of that name to these settings; where it began stays. Raises LogUnavailable."""
    verb = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
    request: dict[str, Any] = {"stream_name": stream, "config": dict(config), "action": "create"}
    try:
        await ask(bus, verb, request, answer=Answer)
    except ApiError as error:
        if error.code != CONSUMER_EXISTS:
            raise
        found = (await ask(bus, f"CONSUMER.INFO.{stream}.{config['name']}", None, answer=_Configured)).config
        beginning = {field: found[field] for field in BEGINNING if field in found}
        kept = {field: value for field, value in config.items() if field not in BEGINNING} | beginning
        await ask(bus, verb, {**request, "config": kept, "action": "update"}, answer=Answer)


async def _widen(bus: Bus, bytes_max: int) -> None:
    found = await _find(bus, CALLBOARD) if bytes_max else None
    if found is not None and 0 < found.get("max_bytes", -1) < bytes_max:
        await ask(bus, f"STREAM.UPDATE.{CALLBOARD}", {**found, "max_bytes": bytes_max}, answer=Answer, seconds=15)


async def _ensure(bus: Bus, stream: str, settings: Mapping[str, Any], *, making: Mapping[str, Any] = {}) -> None:
    found = await _find(bus, stream)
    if found is None:
        try:
            made = await ask(
                bus, f"STREAM.CREATE.{stream}", {"name": stream, **settings, **making}, answer=_Configured, seconds=15
            )
            found = made.config
        except ApiError as error:
            if error.code != STREAM_NAME_IN_USE:
                raise
            found = await _find(bus, stream) or {}  # another process was quicker, with other settings
    for field, should in settings.items():
        _check_field(stream, field, found.get(field), should)


async def _find(bus: Bus, stream: str) -> dict[str, Any] | None:
    try:
        return (await ask(bus, f"STREAM.INFO.{stream}", None, answer=_Configured)).config
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        return None


def _check_field(stream: str, field: str, found: Any, should: Any) -> None:
    if field == "num_replicas" and isinstance(found, int) and found >= should:
        return  # an operator may always keep more copies
    if field == "republish" and isinstance(found, dict):
        found = {key: value for key, value in msgspec.convert(found, dict[str, Any]).items() if value}
    if (found or should) and found != should:
        raise StreamDiffers(stream, field, found, should)


def _check_version(version: str) -> None:
    numbers = version.partition("-")[0].split(".")
    try:
        known = (int(numbers[0]), int(numbers[1]))
    except (ValueError, IndexError):
        raise ServerTooOld(version) from None
    if known < SERVER_MIN:
        raise ServerTooOld(version)
