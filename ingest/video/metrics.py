"""Defines the metrics of video sources; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from dataclasses import asdict

from prometheus_client import Counter, Gauge

from infra.telemetry.buckets import BoundedLabel
from ingest.video.counts import VideoCounts

FRAMES = Counter(
    "standgale_video_frames_total",
    "What became of a source's frames and packets; see docs/video.md",
    ["source", "what"],
)

LAG = Gauge(
    "standgale_video_lag_seconds",
    "How old the oldest packet of a camera is that was not decoded yet",
    ["source"],
)

_SOURCES = BoundedLabel(200)


class CountsExport:
    """Adds the counts of one source to the metrics, as they grow."""

    def __init__(self, source: str, counts: VideoCounts) -> None:
        """Begin with ``counts``, which were exported before, or elsewhere."""
        self._source = _SOURCES(source)
        self._exported = asdict(counts)

    def update(self, counts: VideoCounts, lag_s: float) -> None:
        """Add what came since the last call, and show the lag as it is now."""
        LAG.labels(self._source).set(lag_s)
        for what, value in asdict(counts).items():
            if value > self._exported[what]:
                FRAMES.labels(self._source, what).inc(value - self._exported[what])
                self._exported[what] = value
