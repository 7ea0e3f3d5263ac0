"""Spans: every name and attribute of a trace in one table, and the spans a worker makes while it performs.

A run is a trace, its id the trace's. Each actor has one span whose id is a hash of its place, so that any process can be
its parent without having met it: run, step, agent and tool call are found again after a crash, on any host.
Names follow the GenAI semantic conventions (v1.41.1, all in Development); ours begin with `callboard.`.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from events.fact import Usage
from events.ids import span_id, trace_id
from events.subjects import Address

TRACER: Final = "callboard"

# Names: what a span does, and to what.
INVOKE_WORKFLOW: Final = "invoke_workflow"
RUN_STARTED: Final = "run.started"
STEP: Final = "step"
GATE: Final = "gate"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
WAIT: Final = "wait"

# Attributes of the conventions.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
WORKFLOW: Final = "gen_ai.workflow.name"
CONVERSATION: Final = "gen_ai.conversation.id"
AGENT: Final = "gen_ai.agent.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
TOOL: Final = "gen_ai.tool.name"
TOOL_CALL: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
ERROR: Final = "error.type"

# Our own.
RUN: Final = "callboard.run.id"
RUN_STATUS: Final = "callboard.run.status"
WORKSPACE: Final = "callboard.workspace"
STEP_ID: Final = "callboard.step.id"
STEP_KEY: Final = "callboard.step.key"
ROLE: Final = "callboard.step.role"
ATTEMPT: Final = "callboard.attempt"
TURN: Final = "callboard.turn"
EPOCH: Final = "callboard.epoch"
SEQ_FIRST: Final = "callboard.seq.first"
SEQ_LAST: Final = "callboard.seq.last"
COST: Final = "callboard.cost.usd"
APPROVAL: Final = "callboard.approval.id"
DECISION: Final = "callboard.approval.decision"
GATE_RESULT: Final = "callboard.gate.result"
WAIT_KIND: Final = "callboard.wait.kind"
LINK: Final = "callboard.link.type"

Value = str | int | float | bool | tuple[str, ...]
Attributes = dict[str, Value]


class Recording:
    """Who takes the spans, set by telemetry at start; with nobody there a span costs two microseconds."""

    tracer: Tracer | None = None


_wanted: ContextVar[tuple[str, str] | None] = ContextVar("wanted_span", default=None)


def wanted() -> tuple[str, str] | None:
    """Return the trace and span id, in hex, that the span being made is to have; the SDK's id generator asks."""
    return _wanted.get()


def tracer() -> Tracer:
    """Return who takes the spans; what nobody wants goes nowhere."""
    return Recording.tracer or trace.NoOpTracer()


@contextmanager
def wanting(run: str, span: str) -> Generator[None]:
    """Give the span made inside the id `span`, in the trace of `run`."""
    token = _wanted.set((trace_id(run), span))
    try:
        yield
    finally:
        _wanted.reset(token)


def run_span(run: str) -> str:
    """Return the id of a run's own span, the root of its trace."""
    return span_id(run, "-", "-")


def step_span(run: str, step: str) -> str:
    """Return the id of the span of a step, over all its attempts; `step` is its id, without an attempt."""
    return span_id("step", run, step)


def actor_span(address: Address) -> str:
    """Return the id of an actor's span, which the `traceparent` of its facts names."""
    return span_id(address.run, address.step, address.call)


def parent(run: str, span: str) -> Context:
    """Return the context of a span that some other process has made, or will make."""
    context = SpanContext(int(trace_id(run), 16), int(span, 16), is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def nowhere() -> Context:
    """Return the context of a root."""
    return Context()


def common(address: Address, *, role: str = "", step: str = "") -> Attributes:
    """Return what every span carries, so that each of them is found alone: `step` is the step's key."""
    found: Attributes = {RUN: address.run, WORKSPACE: address.workspace, CONVERSATION: address.run}
    if address.step != "-":
        found[STEP_ID] = address.step
    return found | {name: value for name, value in ((AGENT, role), (ROLE, role), (STEP_KEY, step)) if value}


def used(usage: Usage) -> Attributes:
    """Return the attributes of tokens and cost; input tokens count what came from the cache, as the conventions say."""
    return {
        INPUT_TOKENS: usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        OUTPUT_TOKENS: usage.output_tokens,
        CACHE_READ_TOKENS: usage.cache_read_tokens,
        CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        COST: usage.cost_micros / 1_000_000,
    }


@contextmanager
def span_as(
    name: str, *, run: str, span: str, under: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, Value]
) -> Generator[Span]:
    """Make a span with the id `span` below the span `under` of the run's trace, current inside; a fault is its error."""
    with wanting(run, span):
        made = tracer().start_span(name, parent(run, under), kind, dict(attributes))
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except BaseException as fault:
            fail(made, str(getattr(fault, "code", "")) or type(fault).__name__, str(fault))
            raise


def fail(span: Span, code: str, reason: str) -> None:
    """Mark a span as failed."""
    span.set_attribute(ERROR, code)
    span.set_status(Status(StatusCode.ERROR, reason[:500]))


class ChatSpan:
    """A model call under way."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._began = time.monotonic()
        self._heard = False

    def chunk(self) -> None:
        """Say that words came in; the first time is kept."""
        if not self._heard:
            self._heard = True
            self._span.set_attribute(FIRST_CHUNK, time.monotonic() - self._began)

    def answered(self, *, model: str, stop: str, usage: Usage) -> None:
        """Say what the call came to."""
        self._span.set_attributes({RESPONSE_MODEL: model, FINISH_REASONS: (stop,)} | used(usage))


class ToolSpan:
    """A tool call under way."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def failed(self, code: str, reason: str) -> None:
        """Say that the tool answered with a failure."""
        fail(self._span, code, reason)


_SILENT_CHAT: Final = ChatSpan(trace.INVALID_SPAN)
_SILENT_TOOL: Final = ToolSpan(trace.INVALID_SPAN)


@contextmanager
def chat(
    address: Address, *, model: str, provider: str, role: str, step: str, turn: int, epoch: int
) -> Generator[ChatSpan]:
    """Make the span `chat {model}` of a model call by the agent at `address`; `step` is the step's key."""
    if Recording.tracer is None:
        yield _SILENT_CHAT
        return
    attributes = common(address, role=role, step=step) | {
        OPERATION: CHAT,
        PROVIDER: provider,
        REQUEST_MODEL: model,
        TURN: turn,
        EPOCH: epoch,
    }
    with span_as(
        f"{CHAT} {model}",
        run=address.run,
        span=span_id(CHAT, address.run, address.step, turn, epoch),
        under=actor_span(address),
        kind=SpanKind.CLIENT,
        attributes=attributes,
    ) as span:
        yield ChatSpan(span)


@contextmanager
def tool(address: Address, *, tool: str, role: str, step: str, epoch: int) -> Generator[ToolSpan]:
    """Make the span `execute_tool {tool}` of the call at `address`; `step` is the step's key."""
    if Recording.tracer is None:
        yield _SILENT_TOOL
        return
    attributes = common(address, role=role, step=step) | {
        OPERATION: EXECUTE_TOOL,
        TOOL: tool,
        TOOL_CALL: address.call,
        TOOL_TYPE: "function",
        EPOCH: epoch,
    }
    first = epoch <= 1
    with span_as(
        f"{EXECUTE_TOOL} {tool}",
        run=address.run,
        span=actor_span(address) if first else span_id(EXECUTE_TOOL, address.run, address.call, epoch),
        under=actor_span(address.at(address.step)),
        attributes=attributes,
    ) as span:
        yield ToolSpan(span)
