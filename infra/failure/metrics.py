"""Defines the metrics of retries and failed records; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter

RETRIES = Counter("standgale_retries_total", "Attempts repeated after transient errors", ["group", "reason"])
RECORDS_FAILED = Counter(
    "standgale_records_failed_total", "Failed attempts at single records", ["group", "topic", "reason"]
)
RECORDS_DEAD = Counter("standgale_records_dead_lettered_total", "Records dead-lettered", ["group", "topic", "reason"])
RECORDS_LOST = Counter(
    "standgale_records_lost_total", "Records that retention deleted before they were read", ["group", "topic"]
)
