"""Defines the metrics of the sinks and of jobs; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

WEBHOOK_CALLS = Counter("standgale_webhook_calls_total", "Calls of web-hooks, and dead letters", ["result"])
STATISTICS_WINDOWS = Counter("standgale_statistics_windows_published_total", "Windows published on the topic stats")
SSE_CLIENTS = Gauge("standgale_sse_clients", "Clients connected now", ["stream"])
SSE_EVENTS = Counter("standgale_sse_events_sent_total", "Events sent to clients", ["stream"])
SSE_DROPPED = Counter("standgale_sse_clients_dropped_total", "Clients disconnected because they were slow", ["stream"])
ANNOTATIONS = Counter("standgale_annotations_total", "Posts to the Annotations service", ["result"])

ARCHIVE_IMAGES = Counter(
    "standgale_archive_images_total", "Images added to the archive: linked without a copy, or uploaded", ["result"]
)
ARCHIVE_COMMITS = Counter("standgale_archive_commits_total", "Batches of frames that were committed in the archive")

JOBS = Counter("inference_jobs_total", "Jobs that reached a status", ["status"])
JOB_SECONDS = Histogram(
    "inference_job_duration_seconds",
    "Seconds from the start of a job to its end",
    ["status"],
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 86_400),
)
MQTT_EVENTS = Counter(
    "standgale_mqtt_messages_total", "Messages that the MQTT broker took, took for nobody, or refused", ["result"]
)
