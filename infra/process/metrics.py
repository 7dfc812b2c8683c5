"""Defines the metric of readiness; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Gauge

READY = Gauge("standgale_ready", "1 while the part is ready, else 0", ["part"])
