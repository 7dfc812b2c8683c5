"""Defines the metrics of retries and failed records; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter

RETRIES = Counter("standgale_retries_total", "Tries repeated because the world was in the way", ["group", "reason"])
RECORDS_FAILED = Counter(
    "standgale_records_failed_total", "Failed tries of single records", ["group", "topic", "reason"]
)
RECORDS_DEAD = Counter("standgale_records_dead_lettered_total", "Records dead-lettered", ["group", "topic", "reason"])
RECORDS_LOST = Counter(
    "standgale_records_lost_total", "Records that retention deleted before they were read", ["group", "topic"]
)
