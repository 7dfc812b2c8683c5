"""Defines the metric of the embedded broker's retention; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Gauge

RETENTION_HELD = Gauge(
    "standgale_retention_held_records",
    "Records past their retention that are kept because the group has not committed them",
    ["group"],
)
