"""A run is one trace: its long spans are made of its facts, and no parent is missing."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan  # noqa: TID251 - what is exported is looked at here
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: TID251 - as above

from actors import spans
from events.envelope import traceparent
from events.fact import Usage
from events.ids import trace_id
from events.run import RunFailed, RunSucceeded
from events.subjects import Address
from gateway.settings import Settings
from gateway.telemetry import close, set_up_traces
from gateway.trace_export import send
from gateway.traces import Backdated, run_spans, started_span
from tests.history import BEGAN_MS, TICK_MS, History
from tests.stories import Story

RUN = "run_01jz0000000000000000000000"


@contextmanager
def exporting(otel: dict[str, str] | None = None) -> Generator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = set_up_traces(Settings(otel=otel or {}), process="test", exporter=exporter)
    assert provider is not None
    try:
        yield exporter
    finally:
        close(provider)


def told() -> Story:
    """A run with a gate that fails once, a failed attempt and an approval."""
    story = Story(History(RUN))
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.tick(key, 1)
        story.succeed(key)
    story.begin("review", "reviewer")
    story.fail_gate("review", "backend")
    story.begin("backend")
    story.fail("backend")
    story.begin("backend")
    story.succeed("backend")
    story.begin("review", "reviewer")
    story.pass_gate("review")
    story.begin("ship", "manager")
    call = story.ask("ship")
    story.decide("ship", call)
    story.succeed("ship")
    story.history.run(RunSucceeded(summary="all good"))
    return story


def by_name(made: list[Backdated]) -> dict[str, list[Backdated]]:
    found: dict[str, list[Backdated]] = {}
    for each in made:
        found.setdefault(each.name, []).append(each)
    return found


def test_a_run_under_way_has_no_long_spans_yet() -> None:
    story = Story(History(RUN))
    story.start()
    assert run_spans(story.history.records) == []


def test_every_parent_is_there() -> None:
    made = run_spans(told().history.records)
    ids = {each.id for each in made}
    assert len(ids) == len(made)
    assert [each.name for each in made if not each.under] == ["invoke_workflow software"]
    assert {each.under for each in made if each.under} <= ids


def test_steps_span_all_their_attempts_and_agents_one_each() -> None:
    found = by_name(run_spans(told().history.records))
    backends = [each for each in found["step backend"] if each.attributes[spans.STEP_KEY] == "backend"]
    assert len(backends) == 1
    assert backends[0].attributes[spans.ATTEMPT] == 3
    agents = [each for each in found["invoke_agent backend"] if each.attributes[spans.STEP_KEY] == "backend"]
    assert [each.attributes[spans.ATTEMPT] for each in agents] == [1, 3, 2]
    assert agents[1].after == agents[0].id
    assert {each.under for each in agents} == {backends[0].id}


def test_a_gate_says_how_it_ended() -> None:
    found = by_name(run_spans(told().history.records))
    (gate,) = found["gate review"]
    assert gate.attributes[spans.GATE_RESULT] == "passed"
    assert not gate.error


def test_waiting_for_a_human_is_a_span_of_its_own() -> None:
    (wait,) = by_name(run_spans(told().history.records))["wait approval"]
    assert wait.attributes[spans.DECISION] == "approve"
    assert wait.end_ms - wait.start_ms == TICK_MS


def test_the_root_is_backdated_and_sums_up() -> None:
    story = told()
    (root,) = by_name(run_spans(story.history.records))["invoke_workflow software"]
    assert (root.start_ms, root.end_ms) == (BEGAN_MS + TICK_MS, story.history.now_ms)
    assert root.attributes[spans.RUN_STATUS] == "succeeded"
    assert root.attributes[spans.SEQ_LAST] == len(story.history.records)
    assert root.attributes[spans.OUTPUT_TOKENS] == 100


def test_a_failed_run_is_an_error_at_its_root() -> None:
    story = Story(History(RUN))
    story.start()
    story.begin("analyze")
    story.history.run(RunFailed(code="turns", reason="too many", step="analyze"))
    root, *rest = run_spans(story.history.records)
    assert (root.error, root.reason) == ("turns", "too many")
    assert {each.end_ms for each in rest} == {story.history.now_ms}


def test_every_span_can_be_found_alone() -> None:
    for each in run_spans(told().history.records):
        assert each.attributes[spans.RUN] == RUN
        assert each.attributes[spans.CONVERSATION] == RUN
        assert each.attributes[spans.WORKSPACE] == "default"
        assert each.attributes[spans.WORKFLOW] == "software"
        assert spans.OPERATION in each.attributes


def test_what_a_worker_does_live_hangs_below_what_comes_at_the_end() -> None:
    story = told()
    address = Address("default", RUN, story.id_of("analyze"))
    call = address.at(address.step, "call_1")
    with exporting() as exporter:
        with spans.chat(
            address, model="opus", provider="anthropic", role="backend", step="analyze", turn=1, epoch=1
        ) as chat:
            chat.chunk()
            chat.answered(model="opus-5", stop="tool_use", usage=Usage(input_tokens=5, cache_read_tokens=2))
        with spans.tool(call, tool="write_file", role="backend", step="analyze", epoch=1):
            pass
        send([started_span(story.history.records[1]), *run_spans(story.history.records)])
        made = exporter.get_finished_spans()
    traces = {context_of(span)[0] for span in made}
    assert traces == {trace_id(RUN)}
    ids = [context_of(span)[1] for span in made]
    assert len(set(ids)) == len(ids)
    missing = [span.name for span in made if span.parent is not None and f"{span.parent.span_id:016x}" not in ids]
    assert missing == []
    chat_span = next(span for span in made if span.name == "chat opus")
    assert chat_span.attributes is not None
    assert chat_span.attributes[spans.INPUT_TOKENS] == 7
    assert chat_span.attributes[spans.FINISH_REASONS] == ("tool_use",)


def test_the_traceparent_of_a_fact_names_the_span_of_its_actor() -> None:
    address = Address("default", RUN, "stp_1", "call_1")
    with exporting() as exporter:
        with spans.tool(address, tool="read_file", role="r", step="s", epoch=1):
            pass
        (made,) = exporter.get_finished_spans()
    assert traceparent(address) == f"00-{context_of(made)[0]}-{context_of(made)[1]}-01"
    root = run_spans(told().history.records)[0]
    assert traceparent(Address("default", RUN)) == f"00-{trace_id(RUN)}-{root.id}-01"


def test_a_second_epoch_of_a_call_has_an_id_of_its_own() -> None:
    address = Address("default", RUN, "stp_1", "call_1")
    with exporting() as exporter:
        for epoch in (1, 2):
            with spans.tool(address, tool="read_file", role="r", step="s", epoch=epoch):
                pass
        one, two = exporter.get_finished_spans()
    assert context_of(one)[1] != context_of(two)[1]


def test_what_raises_inside_a_span_is_its_error() -> None:
    class Overloaded(Exception):
        code = "overloaded"

    address = Address("default", RUN, "stp_1")
    with exporting() as exporter:
        with (
            pytest.raises(Overloaded),
            spans.chat(address, model="m", provider="p", role="r", step="s", turn=1, epoch=1),
        ):
            raise Overloaded("529")
        (made,) = exporter.get_finished_spans()
    assert made.attributes is not None
    assert made.attributes[spans.ERROR] == "overloaded"
    assert not made.status.is_ok


def test_a_ratio_keeps_or_drops_a_run_as_a_whole() -> None:
    story = told()
    with exporting({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}) as exporter:
        send(run_spans(story.history.records))
        with spans.tool(Address("default", RUN, "s", "c"), tool="t", role="r", step="s", epoch=1):
            pass
        assert exporter.get_finished_spans() == ()


def test_without_telemetry_nothing_is_recorded() -> None:
    with spans.tool(Address("default", RUN, "s", "c"), tool="t", role="r", step="s", epoch=1) as span:
        span.failed("x", "y")
    send(run_spans(told().history.records))


def test_a_collector_that_is_away_does_not_keep_the_process() -> None:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    provider = set_up_traces(Settings(otel=otel), process="test")
    assert provider is not None
    send(run_spans(told().history.records))
    began = time.monotonic()
    close(provider)
    assert time.monotonic() - began < 4


def context_of(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
