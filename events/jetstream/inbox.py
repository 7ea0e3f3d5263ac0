"""The inbox: commands to actors, and timers that become commands when they are due."""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from events import envelope
from events.ids import check_token
from events.jetstream.api import CALLBOARD_INBOX, Answer, Published, ask, error_of
from events.jetstream.connection import Bus
from events.jetstream.replies import REQUEST_SECONDS
from events.log import LogUnavailable
from events.subjects import Address, check_address, command_subject, timer_subject

SCHEDULE: Final = "Nats-Schedule"
TARGET: Final = "Nats-Schedule-Target"
SEND_SECONDS_MAX: Final = 15.0
AGAIN_SECONDS: Final = 0.05

_published = msgspec.json.Decoder(Published)


class Inbox:
    """Puts commands and timers into the stream CALLBOARD_INBOX."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send(
        self, address: Address, verb: str, body: bytes, *, command_id: str, headers: Mapping[str, str] | None = None
    ) -> int:
        """Store a command, perhaps more than once, and return its sequence in the inbox; `command_id` tells repeats.

        Raises LogUnavailable.
        """
        subject = command_subject(check_address(address), check_token(verb, "verb"))
        return await self._store(subject, body, {**(headers or {}), envelope.ID: command_id})

    async def schedule(self, address: Address, timer: str, *, at_ms: int, verb: str, body: bytes) -> None:
        """Send `verb` with `body` to the actor at `at_ms` (ms since the epoch; a past time fires at once).

        Replaces the actor's earlier timer of that name. Raises InvalidToken, LogUnavailable.
        """
        target = command_subject(check_address(address), check_token(verb, "verb"))
        headers = {SCHEDULE: f"@at {envelope.rfc3339(at_ms)}", TARGET: target}
        await self._store(timer_subject(address, check_token(timer, "timer")), body, headers)

    async def unschedule(self, address: Address, timer: str) -> None:
        """Take a timer away; one that has fired, or never was, is no error. Raises LogUnavailable."""
        request = {"filter": timer_subject(check_address(address), check_token(timer, "timer"))}
        await ask(self._bus, f"STREAM.PURGE.{CALLBOARD_INBOX}", request, answer=Answer)

    async def _store(self, subject: str, body: bytes, headers: Mapping[str, str]) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SEND_SECONDS_MAX
        while True:
            try:
                seconds = min(REQUEST_SECONDS, max(deadline - loop.time(), 0.1))
                reply = await self._bus.request(subject, body, headers=headers, seconds=seconds)
            except LogUnavailable:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            answer = _published.decode(reply.body)
            if answer.error is not None:
                raise error_of(f"a publish to {subject}", answer.error)
            return answer.seq
