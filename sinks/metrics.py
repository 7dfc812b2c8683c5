"""Defines the metrics of the live stream; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SSE_CLIENTS = Gauge("standgale_sse_clients", "Clients connected now", ["stream"])
SSE_EVENTS = Counter("standgale_sse_events_sent_total", "Events sent to clients", ["stream"])
SSE_DROPPED = Counter("standgale_sse_clients_dropped_total", "Clients disconnected because they were slow", ["stream"])
