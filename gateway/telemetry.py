"""Logs and traces of a process: one JSON line an event, spans by OTLP only where the usual OTEL_* variables ask for it.

The one importer of the OpenTelemetry SDK. Nothing is sent anywhere else, ever.
"""

import logging
import sys
import threading
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from opentelemetry import trace

from actors import spans
from events.ids import trace_id
from gateway.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

EXPORT_SECONDS_MAX: Final = 2.0
CLOSE_SECONDS_MAX: Final = 3.0
LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
NOISY: Final = ("asyncio", "httpx2", "httpcore", "opentelemetry", "uvicorn", "uvicorn.error", "litestar")
"""Other people's loggers: from a warning on, unless everything is asked for."""

Event = MutableMapping[str, Any]


@contextmanager
def telemetry(
    settings: Settings, *, process: str, file: Path | None = None, console: TextIO | None = None
) -> Generator[None]:
    """Set up logs and traces of `process` (worker, gateway, projector, up, demo) for as long as the block lasts.

    With `file` all events go there, and only warnings to `console` (stderr by default); without, all go to `console`.
    """
    out = console or sys.stderr
    opened = _opened(file) if file is not None else None
    if opened is None:
        handlers = [_handler(out, level=_level(settings), json=settings.log_format == "json")]
    else:
        handlers = [
            _handler(out, level=logging.WARNING, json=False),
            _handler(opened, level=_level(settings), json=True),
        ]
    set_up_logs(settings, process=process, handlers=handlers)
    provider = set_up_traces(settings, process=process)
    try:
        yield
    finally:
        if provider is not None:
            close(provider)
        logging.captureWarnings(False)
        logging.getLogger().handlers = []
        if opened is not None:
            opened.close()


def is_tracing() -> bool:
    """Tell whether spans are sent anywhere."""
    return spans.Recording.tracer is not None


# Logs


def set_up_logs(settings: Settings, *, process: str, handlers: list[logging.Handler]) -> None:
    """Send structlog and the standard library's logging to `handlers`, in one format."""
    root = logging.getLogger()
    root.handlers = handlers
    logging.captureWarnings(True)
    root.setLevel(_level(settings))
    debug = settings.log_level == "debug"
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)
        logging.getLogger(name).propagate = True
    structlog.contextvars.bind_contextvars(process=process)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _handler(out: TextIO, *, level: int, json: bool) -> logging.Handler:
    handler = logging.StreamHandler(out)
    handler.setLevel(level)
    written = _json() if json else _text(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=list(_SHARED), processors=written))
    return handler


def _json() -> list[Any]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return [drop, structlog.processors.format_exc_info, _ordered, structlog.processors.JSONRenderer(default=str)]


def _text(out: TextIO) -> list[Any]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    plain = structlog.dev.plain_traceback
    return [drop, structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain, timestamp_key="time")]


def add_ids(_: Any, __: str, event: Event) -> Event:
    """Add the trace, run and span that an event belongs to: from the span under way, or the run or actor it names."""
    run = _run_of(event)
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    elif run:
        event["trace_id"] = trace_id(run)
    if run:
        event["run_id"] = run
    return event


def _run_of(event: Event) -> str:
    """An actor is named `workspace/run.step.call`."""
    if isinstance(run := event.get("run"), str):
        return run
    if isinstance(actor := event.get("actor"), str):
        return actor.rpartition("/")[2].partition(".")[0]
    return ""


def _ordered(_: Any, __: str, event: Event) -> Event:
    first = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    return {**first, **event}


_SHARED: Final[tuple[Any, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    add_ids,
)


def _level(settings: Settings) -> int:
    return LEVELS[settings.log_level]


def _opened(file: Path) -> TextIO:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("a", buffering=1, errors="backslashreplace")


# Traces


def set_up_traces(
    settings: Settings, *, process: str, exporter: "SpanExporter | None" = None
) -> "TracerProvider | None":
    """Set up spans if the environment names where to send them (or `exporter` is given); return what to close."""
    if exporter is None and not _traced(settings.otel):
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    provider = TracerProvider(
        sampler=_sampler(settings.otel),
        resource=_resource(settings.otel, process),
        id_generator=_ids(),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        provider.add_span_processor(BatchSpanProcessor(_otlp(settings.otel)))
    spans.Recording.tracer = provider.get_tracer(spans.TRACER)
    return provider


def close(provider: "TracerProvider") -> None:
    """Send what is left, within a limit: a collector that does not answer must not keep the process."""
    spans.Recording.tracer = None
    thread = threading.Thread(target=provider.shutdown, name="telemetry shutdown", daemon=True)
    thread.start()
    thread.join(CLOSE_SECONDS_MAX)


def _traced(otel: Mapping[str, str]) -> bool:
    off = otel.get("OTEL_SDK_DISABLED", "").lower() == "true" or otel.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    return not off and bool(_endpoint(otel))


def _endpoint(otel: Mapping[str, str]) -> str:
    """Return where spans go: as the specification of the OTLP exporter says, the base gets `v1/traces`."""
    if named := otel.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return named
    base = otel.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    return f"{base}/v1/traces" if base else ""


def _otlp(otel: Mapping[str, str]) -> "SpanExporter":
    """Headers, certificates and compression are read from the environment by the exporter itself."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=_endpoint(otel), timeout=EXPORT_SECONDS_MAX)


def _resource(otel: Mapping[str, str], process: str) -> Any:
    from opentelemetry.sdk.resources import Resource

    named = "OTEL_SERVICE_NAME" in otel or "service.name=" in otel.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": f"callboard-{process}"})


def _sampler(otel: Mapping[str, str]) -> "Sampler":
    """Decide by the trace id alone: parents are rebuilt from ids, so every process must come to the same end."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased

    name = otel.get("OTEL_TRACES_SAMPLER", "always_on")
    if name.endswith("always_off"):
        return ALWAYS_OFF
    if name.endswith("traceidratio"):
        return TraceIdRatioBased(float(otel.get("OTEL_TRACES_SAMPLER_ARG", "1.0")))
    return ALWAYS_ON


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Ids as `actors.spans` wants them, and random ones for everybody else."""

        def generate_span_id(self) -> int:
            wanted = spans.wanted()
            return int(wanted[1], 16) if wanted else super().generate_span_id()

        def generate_trace_id(self) -> int:
            wanted = spans.wanted()
            return int(wanted[0], 16) if wanted else super().generate_trace_id()

    return Ids()
