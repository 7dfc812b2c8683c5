"""Runs the PostgreSQL sinks of detections and of failed frames in one process, in small batches, until it is killed.

``python -m tests.faults.table_writers DSN FOLDER``
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.topics import load_topics
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.sink import PostgresSink
from tests.faults.job_process import StaticBroker

BATCH = 10


async def main(dsn: str, folder: Path) -> None:
    """Write until SIGTERM."""
    database = Database.open(DatabaseSettings(url=dsn), folder)
    broker, health, stop = StaticBroker(folder / "broker.db", load_topics()), Health(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    batches, retry = BatchSettings(batch_records=BATCH), RetrySettings(first_delay_s=0.05, max_delay_s=0.2)
    runners = [
        SinkRunner(sink, broker, batches=batches, retry=retry)
        for sink in (PostgresSink(database), FailedFrames(database))
    ]
    await asyncio.gather(*(each.run(stop, health.part(each.name)) for each in runners))
    await database.close()
    await broker.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
