"""What the doors of one process work with."""

import asyncio

import msgspec

from gateway.errors import Problem
from gateway.operations import Operations
from gateway.reads import Reads
from gateway.system import System
from gateway.tail import QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, Tail
from projections.store import Store


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much the doors take on at once."""

    body_bytes_max: int = 1024 * 1024
    headers_bytes_max: int = 64 * 1024
    headers_seconds_max: float = 10.0
    streams_max: int = 1000
    stream_frames_max: int = QUEUE_FRAMES_MAX
    stream_bytes_max: int = QUEUE_BYTES_MAX
    send_seconds_max: float = 30.0
    heartbeat_seconds: float = 15.0
    wait_seconds_max: float = 60.0
    zip_bytes_max: int = 512 * 1024 * 1024


class Gateway:
    """The open parts behind the doors. Without a store (Postgres was away at the start) reads of it are refused."""

    def __init__(self, system: System, store: Store | None, *, limits: Limits | None = None) -> None:
        self.system = system
        self.limits = limits or Limits()
        self.operations = Operations(system)
        self.tail = Tail(
            system.facts,
            system.bus,
            frames_max=self.limits.stream_frames_max,
            bytes_max=self.limits.stream_bytes_max,
        )
        self.reads = Reads(system, self.operations, self.tail, store=store)
        self.streams = 0
        self.url = ""

    def open_stream(self) -> None:
        """Count a stream; raises Problem when there are too many."""
        if self.tail.over:
            raise Problem(503, self.tail.over, "this gateway streams no more; ask another, or again")
        if self.streams >= self.limits.streams_max:
            raise Problem(
                503,
                "too_many_streams",
                f"{self.streams} streams are open, and no more may be; one stream can follow many runs",
                hint="GET /v1/events/stream?run=A&run=B",
            )
        self.streams += 1

    def close_stream(self) -> None:
        """Count a stream's end."""
        self.streams -= 1

    async def run(self) -> None:
        """Keep the tail going until cancelled."""
        try:
            await self.tail.run()
            await asyncio.Event().wait()
        finally:
            await self.tail.close()
