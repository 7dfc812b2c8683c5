"""Defines the metrics of the gateway; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.buckets import SECONDS, BoundedLabel

IMAGES_STORED = Counter("images_stored_total", "Images stored in the frame store and published", ["device_id"])
FRAMES_REJECTED = Counter("standgale_frames_rejected_total", "Uploads refused, by error code", ["reason"])
FRAMES_BY_DIGEST = Counter("standgale_frames_by_digest_total", "Frames whose images were stored and not sent again")
CLOCK_AHEAD = Gauge(
    "standgale_clock_ahead_seconds", "How far another clock is ahead of this machine's; negative: behind", ["clock"]
)
PARTITIONS_REFUSED = Gauge(
    "standgale_partitions_refused",
    "Partitions whose frames the gateway refuses because the detectors are behind",
    ["topic"],
)
FRAMES_WAITING = Gauge("standgale_frames_waiting", "Frames whose detections a request waits for", ["server"])
ANSWER_WAIT = Histogram(
    "standgale_answer_wait_seconds",
    "Time from publishing a frame to the end of waiting for its detections",
    ["result"],
    buckets=SECONDS,
)

_DEVICES = BoundedLabel()


def image_stored(device_id: str) -> None:
    """Count one stored image of a device."""
    IMAGES_STORED.labels(_DEVICES(device_id)).inc()
