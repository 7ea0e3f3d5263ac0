"""What a cluster says of itself."""

import msgspec

from events.jetstream.api import Answer, ApiError, ask
from events.jetstream.connection import Bus
from events.log import LogUnavailable


class _Led(msgspec.Struct, frozen=True):
    leader: str = ""


class _Info(Answer, frozen=True):
    cluster: _Led = _Led()


async def leader_of(bus: Bus, stream: str, consumer: str = "") -> str:
    """Return the server that leads a stream, or a consumer of it; empty while there is none."""
    verb = f"CONSUMER.INFO.{stream}.{consumer}" if consumer else f"STREAM.INFO.{stream}"
    try:
        return (await ask(bus, verb, None, answer=_Info)).cluster.leader
    except (ApiError, LogUnavailable):
        return ""
