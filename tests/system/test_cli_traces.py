"""A demo seen by a collector: one trace, and no parent is missing. Logs name the run. A dead collector holds nobody up."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from actors import spans
from events.ids import trace_id
from tests.system.cli import Folder

pytestmark = pytest.mark.timeout(180)


class Got(msgspec.Struct, frozen=True):
    """A span as a collector gets it."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


@contextmanager
def collector() -> Generator[tuple[str, list[Got]]]:
    """Take spans by OTLP over HTTP, on a port of its own."""
    got: list[Got] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.extend(spans_of(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def spans_of(body: bytes) -> list[Got]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Got(
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            attributes={each.key: each.value.string_value for each in span.attributes},
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


async def test_a_demo_is_one_trace_without_a_missing_parent(tmp_path: Path) -> None:
    with collector() as (url, got):
        folder = Folder(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        found = await folder.run("demo", "--yes", "--speed", "20", "-o", "jsonl", seconds=90)
    assert found.code == 0, found.err
    *events, result = found.lines
    run = result["run_id"]
    assert {span.trace for span in got} == {trace_id(run)}
    ids = [span.id for span in got]
    assert len(set(ids)) == len(ids)
    assert [span.name for span in got if not span.parent] == ["invoke_workflow software"]
    assert [span.name for span in got if span.parent and span.parent not in ids] == []
    count = {
        name: sum(span.name.startswith(name) for span in got) for name in ("chat ", "execute_tool ", "invoke_agent ")
    }
    assert count["chat "] == sum(event["type"] == "model.responded.v1" for event in events)
    assert count["execute_tool "] == sum(event["type"] in ("tool.completed.v1", "tool.failed.v1") for event in events)
    assert count["invoke_agent "] == sum(event["type"] == "agent.succeeded.v1" for event in events)
    assert {"run.started", "wait approval", "gate code-review", "step backend-engineer"} <= {span.name for span in got}
    for span in got:
        assert span.attributes[spans.RUN] == run
        assert span.attributes[spans.CONVERSATION] == run
    facts = {event["traceparent"].split("-")[2] for event in events}
    assert facts - {span.id for span in got} == set(), "every fact points at a span that was sent"


async def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    folder = Folder(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    found = await folder.run("demo", "--yes", "--speed", "50", seconds=60)
    assert found.code == 0, found.err
