"""C-S1-053: the metrics of a process are rows of system_metrics, bounded in number and age."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from sinks.postgres import system_metrics
from sinks.postgres.system_metrics import SystemMetrics
from sinks.settings import SystemMetricsSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The metrics of this test alone."""
    made = CollectorRegistry()
    monkeypatch.setattr(system_metrics, "REGISTRY", made)
    return made


def keeper(database: Database, **settings: float) -> SystemMetrics:
    return SystemMetrics(database, SystemMetricsSettings(**settings), RetrySettings(), "sink.postgres")


async def rows(database: Database) -> list[tuple[str, float, dict[str, str]]]:
    async with database.acquire() as connection:
        found = await connection.fetch("SELECT * FROM system_metrics ORDER BY metric_name, labels")
    return [(row["metric_name"], row["metric_value"], json.loads(row["labels"])) for row in found]


async def test_counters_and_gauges_are_kept_with_their_labels(database: Database, registry: CollectorRegistry) -> None:
    Gauge("standgale_consumer_lag_records", "", ["group"], registry=registry).labels("sink.postgres").set(7)
    Counter("images_stored_total", "", registry=registry).inc(3)
    Histogram("inference_duration_seconds", "", registry=registry).observe(1)
    Gauge("active_jobs", "", registry=registry).set(math.nan)
    Gauge("queue_length", "", registry=registry).set(math.inf)
    await keeper(database).keep()
    images, lag = await rows(database)
    assert images[:2] == ("images_stored_total", 3.0)
    assert lag[:2] == ("standgale_consumer_lag_records", 7.0)
    assert lag[2].pop("process").count("/") == 1
    assert lag[2] == {"service": "sink.postgres", "group": "sink.postgres"}


async def test_more_values_than_a_round_may_keep_are_left_out_and_logged(
    database: Database, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(system_metrics, "MOST_ROWS", 3)
    many = Gauge("active_jobs", "", ["name"], registry=registry)
    for number in range(5):
        many.labels(str(number)).set(number)
    with caplog.at_level(logging.WARNING):
        await keeper(database).keep()
    assert len(await rows(database)) == 3
    assert "2 values of metrics are not kept; 3 are" in caplog.text


async def test_rows_older_than_the_setting_are_removed_in_parts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_metrics, "_REMOVED_AT_ONCE", 2)
    async with database.acquire() as connection:
        for days in (0, 1.5, 3, 4, 5):
            await connection.execute(
                "INSERT INTO system_metrics (timestamp, metric_name, metric_value, labels) "
                "VALUES (now() - $1::interval, 'x', 1, '{}')",
                timedelta(days=days),
            )
    old = keeper(database, keep_days=2)
    assert [await old.remove_old() for _ in range(3)] == [2, 1, 0]
    assert len(await rows(database)) == 2


async def test_the_component_writes_each_interval_until_it_is_stopped(
    database: Database, registry: CollectorRegistry
) -> None:
    Gauge("active_jobs", "", registry=registry).set(1)
    stop, health = asyncio.Event(), Health()
    part = health.part("system-metrics")
    running = asyncio.create_task(keeper(database, interval_s=1).run(stop, part))
    try:
        for _ in range(200):
            await asyncio.sleep(0.1)
            if len(await rows(database)) >= 2:
                break
    finally:
        stop.set()
        await running
    assert len(await rows(database)) >= 2
