"""What a cluster says of itself."""

import msgspec

from events.jetstream.api import Answer, ApiError, ask
from events.jetstream.connection import Bus
from events.log import LogUnavailable


class _Led(msgspec.Struct, frozen=True):
    leader: str = ""


class _Info(Answer, frozen=True):
    cluster: _Led = _Led()


async def leader_of(bus: Bus, stream: str) -> str:
    """Return the server that leads a stream, empty while there is none."""
    try:
        return (await ask(bus, f"STREAM.INFO.{stream}", None, answer=_Info)).cluster.leader
    except (ApiError, LogUnavailable):
        return ""
