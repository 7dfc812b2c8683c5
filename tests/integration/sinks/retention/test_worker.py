"""The component runs by its schedule and when the store is too large, and shows what holds it."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from sinks.retention import metrics
from sinks.retention.settings import RetentionSettings
from sinks.retention.worker import RetentionWorker
from tests.harnesses.retention import Frame, RetentionSite

pytestmark = pytest.mark.integration


class WorkerSite:
    """A worker with its settings; its groups have read everything."""

    def __init__(self, site: RetentionSite, **settings: Any) -> None:
        self.site = site
        given = {"cleanup_enabled": True, "max_orphan_share": 1.0, "measure_interval_s": 86_400.0}
        broker: Any = None
        wanted = RetentionSettings(**(given | settings))
        self.worker = RetentionWorker(broker, site.store, site.database, wanted, RetrySettings())
        self.health = Health()
        self.part = self.health.part("retention")

    async def work(self) -> None:
        admin: Any = self.site.groups
        await self.worker.work(admin, self.part)

    @property
    def note(self) -> str:
        return self.part.report().note or ""


@pytest.fixture
def site(tmp_path: Path, database: Database) -> RetentionSite:
    return RetentionSite(tmp_path / "frames", database)


async def test_a_run_is_due_once_the_schedule_has_a_time_since_the_last(site: RetentionSite) -> None:
    """C-S1-101."""
    await site.add([Frame(1, 100)])
    worker = WorkerSite(site)
    await worker.work()
    assert len(site.stored()) == 1
    await site.execute(
        "INSERT INTO retention_runs (began_at, ended_at) VALUES (now() - $1::interval, now())", timedelta(days=1)
    )
    await worker.work()
    assert site.stored() == await site.rows() == set()
    assert metrics.STORAGE_BYTES._value.get() == 0
    # The next one is tomorrow.
    await site.add([Frame(2, 100)])
    await worker.work()
    assert len(site.stored()) == 1


async def test_a_store_above_the_limit_is_cleaned_at_once(
    site: RetentionSite, caplog: pytest.LogCaptureFixture
) -> None:
    """C-S1-086, C-S1-112."""
    await site.add([Frame(number, 10, size=1_000) for number in range(3)] + [Frame(3, 10, 0.9)])
    caplog.set_level(logging.WARNING)
    worker = WorkerSite(site, max_total_gb=0.000_002, warning_threshold_gb=0.000_003)
    await worker.work()
    assert "more than retention.warning_threshold_gb" in caplog.text
    assert "retention.warning_threshold_gb" in worker.note
    assert metrics.STORAGE_BYTES._value.get() == 2_000
    assert metrics.STORAGE_LIMIT._value.get() == 2_000
    assert len(site.stored()) == 2


async def test_bytes_that_cannot_be_removed_are_shown(site: RetentionSite) -> None:
    await site.add([Frame(1, 10, 0.9, size=3_000)])
    worker = WorkerSite(site, max_total_gb=0.000_001)
    await worker.work()
    assert "everything else is kept" in worker.note


async def test_nothing_is_removed_unless_it_is_turned_on(site: RetentionSite) -> None:
    await site.add([Frame(1, 100)])
    worker = WorkerSite(site, cleanup_enabled=False, max_total_gb=0.000_001)
    await worker.work()
    assert len(site.stored()) == 1
    assert RetentionSettings().cleanup_enabled is False


async def test_a_run_that_is_held_is_shown_and_not_repeated_at_once(
    site: RetentionSite, caplog: pytest.LogCaptureFixture
) -> None:
    await site.add([Frame(1, 100)])
    site.groups.states = [[]]
    worker = WorkerSite(site, max_total_gb=0.000_000_001 * 1_000)
    await site.add([Frame(2, 99)])
    for _ in range(3):
        await worker.work()
    assert "RETENTION_HELD" in worker.note
    assert caplog.text.count("frames are not removed:") == 1
    assert len(site.stored()) == 2
