"""Starts processes that run the sink for Annotations, to be killed: one for each line of the standard input."""

from __future__ import annotations

import asyncio
import os
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
from tests.harnesses.annotation_site import AnnotationSite

BATCHES = BatchSettings(batch_records=20, batch_wait_s=0.0)


async def consume(dsn: str, folder: Path, url: str) -> None:
    """Run the sink until the process is killed."""
    database = Database.open(DatabaseSettings(url=dsn), folder)
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    sink = AnnotationSite(database, folder, url).sink()
    # With a name of its own the next process takes the partitions over at once.
    runner = SinkRunner(sink, broker, batches=BATCHES, retry=RetrySettings(), instance_id="one")
    await runner.run(asyncio.Event(), Health().part("sink"))


def main(dsn: str, folder: str, url: str) -> None:
    """Start a process for each line, and print its id; a process that was killed is waited for first."""
    child = 0
    for _ in sys.stdin:
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if not child:
            asyncio.run(consume(dsn, Path(folder), url))
            os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
