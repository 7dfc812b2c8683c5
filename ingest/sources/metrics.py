"""Defines the metrics of the sources that a process pulls; those of their frames are in ingest/video."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SOURCES = Gauge("standgale_video_sources", "Sources that this process pulls, by state", ["state"])
LEASES_LOST = Counter("standgale_video_leases_lost_total", "Leases of sources that ended before they were given up")
