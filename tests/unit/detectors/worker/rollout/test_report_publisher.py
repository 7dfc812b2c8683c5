"""Checks that health shows why a worker cannot publish its report, when a person must act."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from detectors.worker.rollout.report_publisher import ReportPublisher
from detectors.worker.rollout.reporting import WorkerIdentity, WorkerReport
from infra.broker.port import OutRecord
from infra.errors import BrokerUnavailableError, RefusedError, TopicMismatchError
from infra.process.health import Health
from schemas.errors import StandgaleError

TIMEOUT_S = 30.0


class Publisher:
    """Fails with ``fault`` while there is one."""

    def __init__(self) -> None:
        self.fault: StandgaleError | None = None
        self.asked = asyncio.Event()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        self.asked.set()
        if self.fault is not None:
            raise self.fault

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (RefusedError("user worker lacks the right WRITE on topic models"), "the right WRITE on topic models"),
        (TopicMismatchError("Kafka has no topic models"), "no topic models"),
        (BrokerUnavailableError("no broker could be reached"), None),
    ],
)
async def test_report_publisher_shows_refused_publish_in_health_until_it_works(
    fault: StandgaleError, shown: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    part = Health().part("detector")
    part.set_ready()
    publisher = Publisher()
    publisher.fault = fault
    reports = ReportPublisher("default", part, WorkerReport(WorkerIdentity("default", "worker-1", 0.03)).event)
    publishing = asyncio.create_task(reports.publish_reports(publisher, 0.03))
    for _ in range(3):
        await _asked(publisher)
    assert part.report().ready == (shown is None)
    assert (shown or "") in (part.reason or "")
    assert len([record for record in caplog.records if "waiting" in record.message]) == (shown is not None)
    publisher.fault = None
    for _ in range(2):
        await _asked(publisher)
    assert part.report().ready
    publishing.cancel()
    await asyncio.wait({publishing})


async def _asked(publisher: Publisher) -> None:
    publisher.asked.clear()
    await asyncio.wait_for(publisher.asked.wait(), TIMEOUT_S)
