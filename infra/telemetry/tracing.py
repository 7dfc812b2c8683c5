"""Carries W3C trace context through HTTP and the broker, and makes OpenTelemetry spans when an endpoint is set.

Without an endpoint no span is made, but the ``traceparent`` of a caller is still passed on to every event that follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from infra.telemetry.settings import TelemetrySettings
from schemas.cloudevents import Headers


class Trace(NamedTuple):
    """Holds the two W3C headers of a trace; None where there is none."""

    traceparent: str | None
    tracestate: str | None


class TracedRecord(Protocol):
    """Names what a span says about a record; the broker's records have it."""

    @property
    def topic(self) -> str:
        """Its topic."""
        ...

    @property
    def partition(self) -> int:
        """Its partition."""
        ...

    @property
    def offset(self) -> int:
        """Its position in the partition."""
        ...

    @property
    def headers(self) -> Headers:
        """With the trace that it continues, if there is one."""
        ...


NO_TRACE = Trace(None, None)
_MOST_LINKS = 128
_W3C = TraceContextTextMapPropagator()
# The trace that is passed on while no spans are made.
_passing: ContextVar[Trace] = ContextVar("passing_trace", default=NO_TRACE)


class _Passing:
    """Passes the trace of a caller on inside its block, without a span."""

    __slots__ = ("_caller", "_token")

    def __init__(self, caller: Trace) -> None:
        self._caller = caller

    def __enter__(self) -> None:
        self._token = _passing.set(self._caller)

    def __exit__(self, *error: object) -> None:
        _passing.reset(self._token)


class _State:
    """Holds the tracer of the process; None while tracing is off."""

    provider: TracerProvider | None = None
    tracer: Tracer | None = None


def setup_tracing(settings: TelemetrySettings, service: str, *, exporter: SpanExporter | None = None) -> None:
    """Start to make spans when ``otlp_endpoint`` is set or an ``exporter`` is given; else make none."""
    shutdown_tracing()
    if exporter is None and settings.otlp_endpoint is None:
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"standgale-{service}", "service.namespace": "standgale"}),
        sampler=ParentBasedTraceIdRatio(settings.trace_sample_ratio),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        endpoint = f"{str(settings.otlp_endpoint).rstrip('/')}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _State.provider = provider
    _State.tracer = provider.get_tracer("standgale")


def shutdown_tracing() -> None:
    """Send the spans that wait, and make no more; may be called twice."""
    if _State.provider is not None:
        _State.provider.shutdown()
    _State.provider = _State.tracer = None


def current_trace() -> Trace:
    """Return the current trace, for the headers of a record or a request."""
    if _State.tracer is None:
        return _passing.get()
    return _of_span(trace.get_current_span())


def trace_of(headers: Headers) -> Trace:
    """Return the trace in the ``headers`` of a record; a malformed one counts as none."""
    parent = state = None
    for name, value in headers:
        if name == "traceparent":
            parent = value.decode("ascii", "replace")
        elif name == "tracestate":
            state = value.decode("ascii", "replace")
    return Trace(parent, state) if parent is not None else NO_TRACE


def http_span(
    name: str, caller: Trace, attributes: Mapping[str, AttributeValue]
) -> AbstractContextManager[Span | None]:
    """Make the span of one HTTP request on the server, under the trace of the ``caller``."""
    if _State.tracer is None:
        return _Passing(caller)
    return _span(name, SpanKind.SERVER, caller, attributes)


@contextmanager
def consumer_span(record: TracedRecord, *, group: str) -> Iterator[Span | None]:
    """Make the span of processing one ``record`` in ``group``, under the trace in its headers."""
    with _span(f"process {record.topic}", SpanKind.CONSUMER, trace_of(record.headers), _of(record, group)) as span:
        yield span


@contextmanager
def batch_span(records: Sequence[TracedRecord], *, group: str) -> Iterator[Span | None]:
    """Make the span of processing a batch in ``group``: a new trace, linked to those of the first 128 records."""
    if _State.tracer is None or not records:
        yield None
        return
    links = []
    for record in records[:_MOST_LINKS]:
        context = trace.get_current_span(_context(trace_of(record.headers))).get_span_context()
        if context.is_valid:
            links.append(Link(context))
    topic = records[0].topic
    attributes = {
        **_messaging(topic, "process"),
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(records),
    }
    with _State.tracer.start_as_current_span(
        f"process {topic}", context=Context(), kind=SpanKind.CONSUMER, attributes=attributes, links=links
    ) as span:
        yield span


@contextmanager
def _span(name: str, kind: SpanKind, caller: Trace, attributes: Mapping[str, AttributeValue]) -> Iterator[Span | None]:
    if _State.tracer is None:
        with _Passing(caller):
            yield None
        return
    with _State.tracer.start_as_current_span(name, context=_context(caller), kind=kind, attributes=attributes) as span:
        yield span


def mark_failed(span: Span | None, code: str) -> None:
    """Mark ``span`` (if there is one) as failed with a bounded error ``code``."""
    if span is not None:
        span.set_status(Status(StatusCode.ERROR, code))
        span.set_attribute("error.type", code)


def _context(caller: Trace) -> Context:
    """Return a context under ``caller``; without a valid one, the root of a new trace."""
    carrier = {name: value for name, value in caller._asdict().items() if value is not None}
    return _W3C.extract(carrier, context=Context())


def _of_span(span: Span) -> Trace:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context=trace.set_span_in_context(span, Context()))
    return Trace(carrier.get("traceparent"), carrier.get("tracestate"))


def _messaging(topic: str, operation: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.destination.name": topic,
    }


def _of(record: TracedRecord, group: str) -> dict[str, AttributeValue]:
    return {
        **_messaging(record.topic, "process"),
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": group,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
