"""Sends each run's long spans once: a durable consumer on the runs' own facts remembers how far it is."""

import asyncio
from typing import Final

import structlog

from events import codec
from events.codec import BrokenFact, UnknownFact
from events.envelope import TYPE, Record, to_record
from events.ids import InvalidToken
from events.jetstream.api import CALLBOARD
from events.jetstream.pull import Delivery, Pull
from events.jetstream.streams import put_consumer, work_consumer
from events.log import LogError
from events.run import RunStarted
from events.subjects import ROOT, run_scope
from gateway.system import System
from gateway.traces import RUN_ENDS, run_spans, send, started_span

CONSUMER: Final = "traces"
FILTER: Final = f"{ROOT}.*.evt.*.-.-.run.>"
AT_ONCE_MAX: Final = 8
ACK_WAIT_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger()


async def export_traces(system: System) -> None:
    """Send the spans of every run that starts or ends from now on; runs until it is canceled.

    Several processes share the work. Raises LogUnavailable if the consumer cannot be made.
    """
    config = work_consumer(CONSUMER, FILTER, ack_wait_seconds=ACK_WAIT_SECONDS) | {"deliver_policy": "new"}
    await put_consumer(system.bus, CALLBOARD, config)
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    busy = 0

    def free() -> int:
        return AT_ONCE_MAX - busy - inbox.qsize()

    async with Pull(system.bus, CALLBOARD, CONSUMER, deliver=inbox.put_nowait, free=free) as pull:
        while True:
            delivery = await inbox.get()
            busy = 1
            await _take(system, delivery)
            busy = 0
            pull.poke()


async def _take(system: System, delivery: Delivery) -> None:
    try:
        record = _record(delivery)
        if isinstance(record.fact, RunStarted):
            send([started_span(record)])
        elif isinstance(record.fact, RUN_ENDS):
            send(run_spans(await system.facts.load(run_scope(record.address.workspace, record.address.run))))
        await delivery.ack()
    except LogError as fault:
        log.warning("trace_put_off", seq=delivery.seq, error=str(fault))
        await delivery.nak(AGAIN_SECONDS)
    except (UnknownFact, BrokenFact, InvalidToken, KeyError, ValueError) as fault:
        log.warning("trace_left_out", seq=delivery.seq, error=str(fault))
        await delivery.ack()


def _record(delivery: Delivery) -> Record:
    fact = codec.decode(delivery.body, delivery.headers[TYPE])
    return to_record(
        seq=delivery.seq, subject=delivery.subject, headers=delivery.headers, body=delivery.body, fact=fact
    )
