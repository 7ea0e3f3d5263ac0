"""Getting into a NATS server: within a limit, and with one clear line when it does not work."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from nats import errors

from events.jetstream.client import PENDING_BYTES_MAX, WireClient
from events.log import LogError

AGAIN_SECONDS: Final = 0.05
RECONNECT_SECONDS: Final = 0.2
PING_SECONDS: Final = 20


class NatsUnreachable(LogError):
    """No NATS server let us in within the limit."""

    def __init__(self, url: str, cause: BaseException) -> None:
        self.url = url
        self.cause = cause
        why = " ".join(str(cause).split()) or type(cause).__name__
        super().__init__(f"NATS cannot be reached at {_redacted(url)}: {why}. Start it there, or name another address.")


async def dial(url: str, *, seconds: float, options: Mapping[str, Any]) -> WireClient:
    """Return a client connected to one of the servers in `url`, which reconnects for ever. Raises NatsUnreachable."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + 0.1)):
                return await _dial_once([part.strip() for part in url.split(",")], options)
        except (OSError, TimeoutError, ValueError, errors.Error) as cause:
            if isinstance(cause, ValueError) or _is_refusal(cause) or loop.time() >= deadline:
                raise NatsUnreachable(url, cause) from cause
        await asyncio.sleep(AGAIN_SECONDS)


async def _dial_once(servers: list[str], options: Mapping[str, Any]) -> WireClient:
    await _reach(servers)
    client = WireClient()
    settings: dict[str, Any] = {
        "allow_reconnect": False,  # with it nats-py's first connect would try for ever, with a wrong password too
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_SECONDS,
        "ping_interval": PING_SECONDS,
        "pending_size": PENDING_BYTES_MAX,
    }
    try:
        await client.connect(servers, **settings, **options)
    except BaseException:
        with contextlib.suppress(Exception):
            await client.close()
        raise
    client.options["allow_reconnect"] = True
    return client


async def _reach(servers: list[str]) -> None:
    """Return when one of `servers` takes a TCP connection; nats-py itself waits two seconds between tries."""
    failure: OSError = OSError("no address")
    for server in servers:
        address = urlsplit(server if "://" in server else f"nats://{server}")
        try:
            _, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
        except OSError as error:
            failure = error
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return
    raise failure


def _is_refusal(cause: BaseException) -> bool:
    return "authorization" in str(cause).lower()


def _redacted(url: str) -> str:
    return re.sub(r"[^/,]*@", "", url)
