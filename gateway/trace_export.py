"""Sends each run's long spans once: a durable consumer on the runs' own facts remembers how far it is."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags

from actors import spans
from events import codec
from events.codec import BrokenFact, UnknownFact
from events.envelope import TYPE, Record, to_record
from events.ids import InvalidToken, trace_id
from events.jetstream.api import CALLBOARD
from events.jetstream.pull import Delivery, Pull
from events.jetstream.streams import put_consumer, work_consumer
from events.log import LogError
from events.run import RunStarted
from events.subjects import ROOT, run_scope
from gateway.system import System
from gateway.traces import RUN_ENDS, Backdated, run_spans, started_span

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


def send(made: Sequence[Backdated]) -> None:
    """Hand spans to whatever telemetry is set up."""
    tracer = spans.tracer()
    for each in made:
        with spans.wanting(each.run, each.id):
            span = tracer.start_span(
                each.name,
                context=spans.parent(each.run, each.under) if each.under else spans.nowhere(),
                kind=SpanKind.INTERNAL,
                attributes=dict(each.attributes),
                links=[_link(each)] if each.after else None,
                start_time=each.start_ms * 1_000_000,
            )
        _end(span, each)


def _end(span: Span, each: Backdated) -> None:
    if each.error:
        spans.fail(span, each.error, each.reason)
    span.end(end_time=each.end_ms * 1_000_000)


def _link(each: Backdated) -> Link:
    before = SpanContext(int(trace_id(each.run), 16), int(each.after, 16), is_remote=True, trace_flags=TraceFlags(1))
    return Link(before, {spans.LINK: "resumed_from"})
