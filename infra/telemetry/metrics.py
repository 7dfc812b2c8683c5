"""Defines the metrics of HTTP requests; see :mod:`infra.telemetry.buckets` for the rules of labels.

:mod:`infra.telemetry.http` sets them for every service. ``endpoint`` is the template of the route, never the path.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from infra.telemetry.buckets import SECONDS

HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests responded to", ["method", "endpoint", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds", "Time to respond to an HTTP request", ["method", "endpoint"], buckets=SECONDS
)
API_REQUESTS = Counter("api_requests_total", "Requests to /api responded to", ["method", "endpoint", "status"])
API_DURATION = Histogram(
    "api_request_duration_seconds", "Time to respond to a request to /api", ["method", "endpoint"], buckets=SECONDS
)
