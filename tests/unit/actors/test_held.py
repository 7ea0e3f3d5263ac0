"""The heart of a worker: it beats for what is in hand, and goes on when that is settled before it looks."""

import asyncio
from collections.abc import Awaitable, Callable

from actors.held import Beat, Held
from events.clock import SystemClock

KEY = ("CALLBOARD", 1)
ACK_WAIT_SECONDS = 0.06


class InHand:
    """A message whose holder says that he is at work."""

    stream, subject, body, seq, delivered, received = "CALLBOARD", "cb", b"", 1, 1, 0.0

    def __init__(self) -> None:
        self.beaten = asyncio.Event()

    async def ack(self) -> None:
        raise AssertionError

    async def nak(self, seconds: float) -> None:
        raise AssertionError(seconds)

    async def progress(self) -> None:
        self.beaten.set()


async def nobody(ticket: int) -> Callable[[], Awaitable[None]]:
    raise AssertionError(ticket)


async def test_a_message_that_is_settled_before_the_heart_looks_does_not_stop_it() -> None:
    clock = SystemClock()
    beat = Beat(ack_wait_seconds=ACK_WAIT_SECONDS, clock=clock, answer_for=nobody)
    beating = asyncio.create_task(beat.run())
    await asyncio.sleep(0)  # it waits for something to hold
    first, second = InHand(), InHand()
    beat.hold(KEY, Held(first, ack_wait_seconds=ACK_WAIT_SECONDS, clock=clock))
    beat.drop(KEY)
    await asyncio.sleep(0)  # it wakes, and there is nothing
    beat.hold(KEY, Held(second, ack_wait_seconds=ACK_WAIT_SECONDS, clock=clock))
    await asyncio.wait([beating, beaten := asyncio.create_task(second.beaten.wait())], return_when="FIRST_COMPLETED")
    assert beaten.done()
    assert not first.beaten.is_set()
    beating.cancel()
