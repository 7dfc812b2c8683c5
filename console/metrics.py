"""Defines the metrics of the console; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter

UPLOADED_FILES = Counter("uploaded_files_total", "Files of uploads that were accepted")
REQUESTS_REFUSED = Counter("standgale_console_refused_total", "Requests that failed, by error code", ["reason"])
