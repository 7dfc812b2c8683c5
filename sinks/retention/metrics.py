"""Defines the metrics of retention; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

STORAGE_BYTES = Gauge("storage_bytes_total", "Bytes of all stored pictures, measured at intervals")
STORAGE_LIMIT = Gauge("standgale_retention_limit_bytes", "Bytes beyond which retention removes frames; 0: no limit")
REMOVED_PICTURES = Counter("standgale_retention_pictures_total", "Pictures that retention removed", ["reason"])
REMOVED_BYTES = Counter("standgale_retention_bytes_total", "Bytes of pictures that retention removed", ["reason"])
LAST_RUN = Gauge("standgale_retention_last_run_seconds", "When retention last ended a run, in seconds since 1970")
