"""One format of log line: JSON with time, level, event and the run it belongs to; and nothing is sent unasked."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from events.ids import trace_id
from gateway.settings import Settings, load_settings
from gateway.telemetry import set_up_traces, telemetry

SETTINGS = Settings()
RUN = "run_01jz0000000000000000000000"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    handlers = logging.getLogger().handlers
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers = handlers


def logged(settings: Settings = SETTINGS, **more: Any) -> list[dict[str, Any]]:
    out = io.StringIO()
    with telemetry(settings, process="worker", console=out):
        structlog.get_logger().info("agent_started", **more)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_time_level_event_and_fields() -> None:
    (line,) = logged(step="backend")
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["level"], line["event"], line["step"], line["process"]) == (
        "info",
        "agent_started",
        "backend",
        "worker",
    )
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("fields", [{"run": RUN}, {"actor": f"default/{RUN}.stp_1.call_1"}])
def test_a_line_about_a_run_names_it_and_its_trace(fields: dict[str, str]) -> None:
    (line,) = logged(SETTINGS, **fields)
    assert line["run_id"] == RUN
    assert line["trace_id"] == trace_id(RUN)


def test_the_level_is_kept() -> None:
    assert logged(Settings(log_level="warning")) == []


def test_an_exception_is_one_line() -> None:
    out = io.StringIO()
    with telemetry(Settings(), process="worker", console=out):
        try:
            raise KeyError("x")
        except KeyError:
            structlog.get_logger().exception("turn_failed")
    (line,) = [json.loads(text) for text in out.getvalue().splitlines()]
    assert "KeyError: 'x'" in line["exception"]


def test_other_libraries_speak_in_the_same_format_from_warnings_on() -> None:
    out = io.StringIO()
    with telemetry(Settings(), process="worker", console=out):
        logging.getLogger("asyncio").info("not this")
        logging.getLogger("uvicorn.error").warning("but %s", "this")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("and this", UserWarning, stacklevel=1)
    lines = [json.loads(text) for text in out.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["warning", "warning"]
    assert lines[0]["event"] == "but this"
    assert "and this" in lines[1]["event"]


def test_with_a_file_only_warnings_reach_the_terminal_as_text(tmp_path: Path) -> None:
    out, file = io.StringIO(), tmp_path / "new" / "callboard.log"
    with telemetry(Settings(), process="up", file=file, console=out):
        structlog.get_logger().info("quiet")
        structlog.get_logger().warning("loud", why="x")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["quiet", "loud"]
    assert "quiet" not in out.getvalue()
    assert "loud" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_unless_the_environment_names_where(environment: dict[str, str]) -> None:
    assert set_up_traces(load_settings(environment=environment, files=()), process="test") is None
