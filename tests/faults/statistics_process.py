"""Runs the statistics in a process of its own, to be killed.

``python -m tests.faults.statistics_process DSN FOLDER``
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.topics import load_topics
from sinks.statistics.counter import StatisticsCounter
from sinks.statistics.publisher import StatisticsPublisher
from sinks.statistics.settings import StatisticsSettings
from sinks.statistics.table import StatisticsTable

RETRY = RetrySettings(first_delay_s=0.01, max_delay_s=0.1)


async def run(dsn: str, folder: Path) -> None:
    """Count, publish and keep until the process is killed."""
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    database = Database.open(DatabaseSettings(url=dsn), folder)
    health, stop = Health(), asyncio.Event()
    batches = BatchSettings(batch_records=20, batch_wait_s=0.0)
    publisher = await broker.publisher()
    settings = StatisticsSettings(publish_s=0.1)
    parts = [
        SinkRunner(StatisticsCounter(database), broker, batches=batches, retry=RETRY),
        SinkRunner(StatisticsTable(database), broker, batches=batches, retry=RETRY),
        StatisticsPublisher(database, publisher, settings, RETRY),
    ]
    await asyncio.gather(*(part.run(stop, health.part(part.name)) for part in parts))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
