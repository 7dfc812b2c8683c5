"""Traces: one trace from HTTP through the broker, with and without spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from infra.broker.event_records import event_record
from infra.broker.port import InRecord
from infra.telemetry.settings import TelemetrySettings
from infra.telemetry.tracing import (
    NO_TRACE,
    Trace,
    batch_span,
    consumer_span,
    current_trace,
    http_span,
    mark_failed,
    setup_tracing,
    shutdown_tracing,
    trace_of,
)
from schemas.cloudevents import decode, header
from schemas.events import FrameCaptured
from standgale.testing.factories import frame_captured

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RECORD = InRecord("frames.live", 3, 41, 0, "d", b"{}", (("traceparent", PARENT.encode()), ("tracestate", b"v=1")))


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    setup_tracing(TelemetrySettings(), "test", exporter=exporter)
    yield exporter
    shutdown_tracing()


def test_without_an_endpoint_nothing_is_made_but_context_travels() -> None:
    setup_tracing(TelemetrySettings(), "test")
    assert current_trace() == NO_TRACE
    with http_span("GET", Trace(PARENT, "v=1"), {}) as span:
        assert span is None
        assert current_trace() == (PARENT, "v=1")
    with consumer_span(RECORD, group="g") as span, batch_span([RECORD], group="g"):
        mark_failed(span, "X")
        assert current_trace() == (PARENT, "v=1")
    assert current_trace() == NO_TRACE


def test_an_event_carries_cloudevents_attributes_and_the_trace() -> None:
    setup_tracing(TelemetrySettings(), "test")
    event = frame_captured(device="d", frame_id=UUID(int=1))
    with http_span("POST", Trace(PARENT, None), {}):
        record = event_record(
            "frames.live", event, id=event.frame_id, source="/standgale/gateway", subject="d", time=NOW, key="d"
        )
    assert record.topic == "frames.live"
    assert record.key == "d"
    assert header(record.headers, "traceparent") == PARENT
    assert header(record.headers, "ce_id") == str(event.frame_id)
    assert header(record.headers, "ce_time") == "2026-11-20T12:00:00.000000Z"
    assert header(record.headers, "ce_partitionkey") == "d"
    assert decode(record.headers, record.value, FrameCaptured) == event


def test_the_same_event_makes_the_same_record() -> None:
    make = lambda: event_record("t", frame_captured(), id=UUID(int=1), source="s", subject=None, time=NOW, key="d")  # noqa: E731
    assert make() == make()


def test_one_trace_from_request_to_consumer(spans: InMemorySpanExporter) -> None:
    with http_span("POST", Trace(PARENT, "v=1"), {"http.request.method": "POST"}):
        sent = current_trace()
    assert sent.traceparent is not None
    received = replace(RECORD, headers=(("traceparent", sent.traceparent.encode()),))
    with consumer_span(received, group="detector") as span:
        mark_failed(span, "IMAGE_CORRUPT")
    finished = {span.name: span for span in spans.get_finished_spans()}
    assert set(finished) == {"POST", "process frames.live"}
    assert {format(span.context.trace_id, "032x") for span in finished.values()} == {TRACE_ID}
    process = finished["process frames.live"]
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert process.parent.span_id == finished["POST"].context.span_id
    assert process.attributes is not None
    assert process.attributes["messaging.system"] == "kafka"
    assert process.attributes["messaging.consumer.group.name"] == "detector"
    assert process.attributes["messaging.destination.partition.id"] == "3"
    assert process.attributes["messaging.kafka.offset"] == 41
    assert process.attributes["error.type"] == "IMAGE_CORRUPT"


def test_a_batch_is_linked_to_its_records(spans: InMemorySpanExporter) -> None:
    bare = replace(RECORD, headers=())
    with batch_span([RECORD, bare, RECORD], group="sink.x"):
        pass
    (span,) = spans.get_finished_spans()
    assert [format(link.context.trace_id, "032x") for link in span.links] == [TRACE_ID, TRACE_ID]
    assert span.parent is None
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 3


def test_a_malformed_parent_starts_a_new_trace(spans: InMemorySpanExporter) -> None:
    odd = replace(RECORD, headers=(("traceparent", b"\xff garbage"),))
    with consumer_span(odd, group="g"):
        fresh = current_trace()
    assert fresh.traceparent is not None
    assert TRACE_ID not in fresh.traceparent
    assert trace_of(()) == NO_TRACE


def test_a_share_of_traces_can_be_left_out() -> None:
    exporter = InMemorySpanExporter()
    setup_tracing(TelemetrySettings(trace_sample_ratio=0.0), "test", exporter=exporter)
    try:
        with http_span("GET", NO_TRACE, {}):
            parent = current_trace().traceparent
        assert parent is not None
        assert int(parent[-2:], 16) & 1 == 0
        assert exporter.get_finished_spans() == ()
        # A caller that has decided to keep its trace is followed.
        with http_span("GET", Trace(PARENT, None), {}):
            pass
        assert len(exporter.get_finished_spans()) == 1
    finally:
        shutdown_tracing()
