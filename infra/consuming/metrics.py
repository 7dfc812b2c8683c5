"""Defines the metrics of all consumers, workers too; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.buckets import SECONDS

RECORDS_CONSUMED = Counter("standgale_records_consumed_total", "Records processed and committed", ["group", "topic"])
PARTITIONS_LOST = Counter("standgale_partitions_lost_total", "Partitions lost with records in progress", ["group"])
CONSUMER_LAG = Gauge("standgale_consumer_lag_records", "Records not committed on owned partitions", ["group", "topic"])
PROCESS_DURATION = Histogram(
    "standgale_process_duration_seconds", "Time to process one batch", ["group"], buckets=SECONDS
)
COMMIT_DURATION = Histogram("standgale_commit_duration_seconds", "Time to commit one batch", ["group"], buckets=SECONDS)
IN_FLIGHT_BYTES = Gauge("standgale_in_flight_bytes", "Bytes in memory for records in progress", ["group"])
DELIVERY_LATENCY = Histogram(
    "standgale_delivery_latency_seconds",
    "From the time of a record in the broker to its commit after the sink wrote it",
    ["group"],
    buckets=SECONDS,
)
