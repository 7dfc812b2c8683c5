"""Defines the metrics of readiness and HTTP connections; :mod:`infra.telemetry.buckets` has the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

READY = Gauge("standgale_ready", "1 while the part is ready, else 0", ["part"])
HTTP_CONNECTIONS = Gauge("standgale_http_connections", "Open connections", ["server"])
HTTP_REFUSED = Counter(
    "standgale_http_refused_total", "Requests and connections that a server ended, by reason", ["server", "reason"]
)
