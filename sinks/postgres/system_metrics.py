"""Keeps the metrics of this process in the table ``system_metrics``, and removes rows that are too old."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from prometheus_client import REGISTRY, Metric

from infra.database.pool import Database
from infra.database.results import rows_changed
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.settings import SystemMetricsSettings

logger = logging.getLogger(__name__)

KEPT = frozenset(
    {
        *("http_requests_total", "images_stored_total", "inference_requests_total", "detection_count_total"),
        *("inference_jobs_total", "active_jobs", "queue_length"),
        *("standgale_consumer_lag_records", "standgale_frames_waiting", "standgale_in_flight_bytes"),
        *("standgale_records_consumed_total", "standgale_records_dead_lettered_total", "standgale_retries_total"),
        *("standgale_ready", "standgale_sse_clients", "standgale_sse_events_sent_total"),
        *("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"),
    }
)
"""The metrics that are kept; all others are for Prometheus, which keeps them in less space."""
MOST_ROWS = 1_000
"""Of one round: labels are bounded, so a process has fewer; more would be an error that must not fill the disk."""
_REMOVED_AT_ONCE = 10_000
_INSERT = """
INSERT INTO system_metrics (metric_name, metric_value, labels)
SELECT * FROM unnest($1::varchar[], $2::real[], $3::jsonb[])
"""
_REMOVE = """
DELETE FROM system_metrics WHERE id IN (
    SELECT id FROM system_metrics WHERE timestamp < now() - $1::interval ORDER BY timestamp LIMIT $2
    FOR UPDATE SKIP LOCKED
)
"""
# A REAL has no larger one.
_LARGEST = 3.4e38

Sample = tuple[str, float, str]
"""Name, value, and labels as JSON"""


class SystemMetrics:
    """Is the component that keeps them; every process with sinks, or the console, keeps its own."""

    name = "system-metrics"

    def __init__(self, database: Database, settings: SystemMetricsSettings, retry: RetrySettings, service: str) -> None:
        self._database = database
        self._settings = settings
        self._retry = retry
        self._process = {"service": service, "process": f"{socket.gethostname()}/{os.getpid()}"}
        self._rounds = Rounds(
            "keeping metrics", "metrics are not kept in system_metrics", settings.interval_s, ready_in_spite=True
        )
        self._next_at = 0.0

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Keep metrics until ``stop`` is set. While the database is away there are none; nothing waits for them."""
        await run_rounds(self._rounds, self._round, stop, health, self._retry)

    async def _round(self) -> int:
        if time.monotonic() >= self._next_at:
            await self.keep()
            self._next_at = time.monotonic() + self._settings.interval_s
        return await self.remove_old()

    async def keep(self) -> None:
        """Write one row for each value. Raises the errors of the database."""
        samples = await asyncio.to_thread(lambda: list(samples_of(REGISTRY.collect(), self._process)))
        if len(samples) > MOST_ROWS:
            logger.warning("%d values of metrics are not kept; %d are", len(samples) - MOST_ROWS, MOST_ROWS)
            del samples[MOST_ROWS:]
        if not samples:
            return
        names, values, labels = (list(column) for column in zip(*samples, strict=True))
        async with self._database.acquire(writing=True) as connection:
            await connection.execute(_INSERT, names, values, labels)

    async def remove_old(self) -> int:
        """Remove some rows that are older than the setting says, and return how many."""
        age = timedelta(days=self._settings.keep_days)
        async with self._database.acquire(writing=True) as connection:
            done: Any = await connection.execute(_REMOVE, age, _REMOVED_AT_ONCE)
        return rows_changed(done)


def samples_of(metrics: Iterable[Metric], process: dict[str, str]) -> Iterator[Sample]:
    """Yield the values in ``metrics`` that are kept, each with its labels and those of ``process``."""
    for metric in metrics:
        for sample in metric.samples:
            if sample.name in KEPT and math.isfinite(sample.value) and abs(sample.value) <= _LARGEST:
                yield sample.name, sample.value, json.dumps(process | sample.labels)
