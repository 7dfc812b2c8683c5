"""Defines the metrics of limits; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter

RATE_LIMITED = Counter("standgale_rate_limited_total", "Requests refused because of a rate, by its name", ["rate"])
