"""Defines the metric of the frame store's disk; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Gauge

FRAME_STORE = Gauge(
    "standgale_frame_store_bytes", "used: by frames, counted at intervals; free: on the disk of the folder", ["what"]
)
