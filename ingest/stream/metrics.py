"""Defines the metrics of the stream of frames; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.buckets import SECONDS

CONNECTIONS = Gauge("standgale_stream_connections", "Clients that send frames by WebSocket now")
FRAMES = Counter("standgale_stream_frames_total", "Frames received by WebSocket, by what became of them", ["result"])
CLOSED = Counter("standgale_stream_closed_total", "Streams that were closed, by code", ["reason"])
ANSWER_TIME = Histogram(
    "standgale_stream_answer_seconds",
    "Time from the last byte of a frame to its acknowledgement",
    buckets=SECONDS,
)
