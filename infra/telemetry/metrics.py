"""Defines the metrics of HTTP requests, which :mod:`infra.telemetry.http` sets for every service; see
:mod:`infra.telemetry.buckets` for the rules of labels.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from infra.telemetry.buckets import SECONDS

HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "endpoint", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds", "Time to answer an HTTP request", ["method", "endpoint"], buckets=SECONDS
)
API_REQUESTS = Counter("api_requests_total", "Requests to /api answered", ["method", "endpoint", "status"])
API_DURATION = Histogram(
    "api_request_duration_seconds", "Time to answer a request to /api", ["method", "endpoint"], buckets=SECONDS
)
