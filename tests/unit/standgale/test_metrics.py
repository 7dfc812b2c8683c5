"""Metrics: every package defines its own, and together they are the table that dashboards and alerts rely on."""

from __future__ import annotations

import re

from prometheus_client.metrics import MetricWrapperBase

import console.metrics
import detectors.metrics
import infra.broker.metrics
import infra.consuming.metrics
import infra.failure.metrics
import infra.http_api.limits.metrics
import infra.process.metrics
import infra.storage.metrics
import infra.telemetry.metrics
import ingest.metrics
import ingest.replay.metrics
import ingest.sources.metrics
import ingest.stream.metrics
import ingest.video.metrics
import sinks.metrics
import sinks.retention.metrics
from tests.paths import ROOT

MODULES = (
    console.metrics,
    detectors.metrics,
    infra.broker.metrics,
    infra.consuming.metrics,
    infra.failure.metrics,
    infra.http_api.limits.metrics,
    infra.process.metrics,
    infra.storage.metrics,
    infra.telemetry.metrics,
    ingest.metrics,
    ingest.sources.metrics,
    ingest.stream.metrics,
    ingest.replay.metrics,
    ingest.video.metrics,
    sinks.metrics,
    sinks.retention.metrics,
)
# Name without the endings that the export adds (_total, _bucket, ...), type, labels.
EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "http_requests": ("counter", ("method", "endpoint", "status")),
    "http_request_duration_seconds": ("histogram", ("method", "endpoint")),
    "api_requests": ("counter", ("method", "endpoint", "status")),
    "api_request_duration_seconds": ("histogram", ("method", "endpoint")),
    "storage_bytes_total": ("gauge", ()),
    "standgale_retention_limit_bytes": ("gauge", ()),
    "standgale_retention_pictures": ("counter", ("reason",)),
    "standgale_retention_bytes": ("counter", ("reason",)),
    "standgale_retention_last_run_seconds": ("gauge", ()),
    "images_stored": ("counter", ("device_id",)),
    "standgale_replayed_frames": ("counter", ("result",)),
    "standgale_video_frames": ("counter", ("source", "what")),
    "standgale_video_lag_seconds": ("gauge", ("source",)),
    "standgale_video_sources": ("gauge", ("state",)),
    "standgale_video_leases_lost": ("counter", ()),
    "standgale_stream_connections": ("gauge", ()),
    "standgale_stream_frames": ("counter", ("result",)),
    "standgale_stream_closed": ("counter", ("reason",)),
    "standgale_stream_answer_seconds": ("histogram", ()),
    "standgale_frames_rejected": ("counter", ("reason",)),
    "uploaded_files": ("counter", ()),
    "standgale_webhook_calls": ("counter", ("result",)),
    "standgale_mqtt_messages": ("counter", ("result",)),
    "standgale_annotations": ("counter", ("result",)),
    "standgale_archive_images": ("counter", ("result",)),
    "standgale_archive_commits": ("counter", ()),
    "standgale_console_refused": ("counter", ("reason",)),
    "standgale_media": ("counter", ("state",)),
    "standgale_media_frames": ("counter", ()),
    "standgale_media_refreshes": ("counter", ("result",)),
    "standgale_inference_job_starts": ("counter", ()),
    "standgale_frames_by_digest": ("counter", ()),
    "standgale_clock_ahead_seconds": ("gauge", ("clock",)),
    "standgale_frames_waiting": ("gauge", ("server",)),
    "standgale_rate_limited": ("counter", ("rate",)),
    "standgale_partitions_refused": ("gauge", ("topic",)),
    "standgale_answer_wait_seconds": ("histogram", ("result",)),
    "standgale_frame_store_bytes": ("gauge", ("what",)),
    "inference_requests": ("counter", ("model", "status")),
    "inference_duration_seconds": ("histogram", ("model",)),
    "detections_per_image": ("histogram", ()),
    "standgale_detections_too_large": ("counter", ("model",)),
    "model_load_time_seconds": ("gauge", ("model",)),
    "standgale_model_state": ("gauge", ("lane", "model", "version", "state")),
    "standgale_model_swaps": ("counter", ("lane", "result")),
    "standgale_frame_latency_seconds": ("histogram", ("topic",)),
    "standgale_engine_failures": ("counter", ("engine",)),
    "standgale_duplicate_frames": ("counter", ()),
    "standgale_frames_late": ("counter", ("policy",)),
    "standgale_rules_duration_seconds": ("histogram", ()),
    "standgale_rules_problems": ("counter", ("model",)),
    "standgale_rulings": ("counter", ("ruling",)),
    "standgale_records_consumed": ("counter", ("group", "topic")),
    "standgale_records_failed": ("counter", ("group", "topic", "reason")),
    "standgale_records_dead_lettered": ("counter", ("group", "topic", "reason")),
    "standgale_records_lost": ("counter", ("group", "topic")),
    "standgale_retries": ("counter", ("group", "reason")),
    "standgale_partitions_lost": ("counter", ("group",)),
    "standgale_consumer_lag_records": ("gauge", ("group", "topic")),
    "standgale_process_duration_seconds": ("histogram", ("group",)),
    "standgale_commit_duration_seconds": ("histogram", ("group",)),
    "standgale_in_flight_bytes": ("gauge", ("group",)),
    "standgale_delivery_latency_seconds": ("histogram", ("group",)),
    "standgale_retention_held_records": ("gauge", ("group",)),
    "standgale_statistics_windows_published": ("counter", ()),
    "standgale_sse_clients": ("gauge", ("stream",)),
    "standgale_sse_events_sent": ("counter", ("stream",)),
    "standgale_sse_clients_dropped": ("counter", ("stream",)),
    "active_jobs": ("gauge", ("status",)),
    "queue_length": ("gauge", ("queue",)),
    "model_inference_time_seconds": ("histogram", ("model",)),
    "detection_count": ("counter", ("class",)),
    "inference_jobs": ("counter", ("status",)),
    "inference_job_duration_seconds": ("histogram", ("status",)),
    "standgale_ready": ("gauge", ("part",)),
    "standgale_http_connections": ("gauge", ("server",)),
    "standgale_http_refused": ("counter", ("server", "reason")),
}
WITHOUT_PREFIX = {name for name in EXPECTED if not name.startswith("standgale_")}
BOUNDED_LABELS = {
    *("class", "queue"),
    *("method", "endpoint", "status", "device_id", "reason", "clock", "what", "model", "lane", "version", "state"),
    *("result", "topic", "engine", "policy", "group", "stream", "part", "server", "source", "rate", "ruling"),
}


def defined() -> list[MetricWrapperBase]:
    return [one for module in MODULES for one in vars(module).values() if isinstance(one, MetricWrapperBase)]


def test_metric_names_types_and_labels_are_unchanged() -> None:
    found = {metric._name: (metric._type, metric._labelnames) for metric in defined()}
    assert found == EXPECTED
    assert len(defined()) == len(EXPECTED)


def test_only_the_agreed_names_lack_the_prefix() -> None:
    assert {
        "http_requests",
        "http_request_duration_seconds",
        "api_requests",
        "api_request_duration_seconds",
        "images_stored",
        "inference_requests",
        "inference_duration_seconds",
        "detections_per_image",
        "model_load_time_seconds",
        "uploaded_files",
        *("active_jobs", "queue_length", "model_inference_time_seconds", "detection_count"),
        "inference_jobs",
        "inference_job_duration_seconds",
        "storage_bytes_total",
    } == WITHOUT_PREFIX


def test_every_label_is_a_bounded_one() -> None:
    assert {label for metric in defined() for label in metric._labelnames} <= BOUNDED_LABELS


def test_the_documentation_names_metrics_that_exist() -> None:
    wanted = re.compile(r"`(standgale_[a-z_]+|" + "|".join(sorted(WITHOUT_PREFIX)) + r")(?:_total)?[`{ ]")
    pages = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    named = {name.removesuffix("_total") for page in pages for name in wanted.findall(page)}
    assert named
    # A role of the database, and packages of clients that are generated from the OpenAPI documents.
    others = {"standgale_reader", "standgale_client", "standgale_console_client"}
    assert named - others <= {name.removesuffix("_total") for name in EXPECTED}
