"""Runs everything of jobs in one process that kills itself, or the database, when it reaches a certain step.

``python -m tests.faults.job_process DSN DATA FOLDER STEP VICTIM``
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import console.jobs.publisher
import infra.outbox.relay
import sinks.postgres.jobs
import sinks.postgres.sink
from console.jobs.publisher import JobPublisher
from console.settings import ConsoleSettings
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Consumer, GroupSpec, OutRecord, Publisher
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.database.embedded import EmbeddedPostgres
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import ImageCorruptError
from infra.failure.settings import RetrySettings
from infra.outbox.relay import OutboxRelay
from infra.process.components import Component
from infra.process.health import Health
from schemas.events import DetectionsMade, FrameCaptured
from schemas.topics import load_topics
from sinks.postgres.jobs import JobFailures
from sinks.postgres.sink import PostgresSink
from tests.harnesses.job_site import answer_of
from tests.harnesses.stand_in_detector import detecting

RETRY = RetrySettings(first_delay_s=0.05, max_delay_s=0.2)
STEPS = (
    *("frames to publish", "frames published", "frames marked", "frames committed"),
    *("rows written", "results counted", "results committed"),
    *("failures counted", "failures committed"),
    *("end to publish", "end published", "end removed"),
)


class Steps:
    """Acts once, when the chosen step is reached."""

    def __init__(self, step: str, act: Callable[[], Awaitable[None]]) -> None:
        self._step = step
        self._act = act

    async def reach(self, step: str) -> None:
        if step and step == self._step:
            self._step = ""
            await self._act()

    def around(self, module: Any, name: str, *, before: str = "", after: str = "") -> None:
        """Reach steps before and after each call of a function that found work."""
        real = getattr(module, name)

        async def stepping(*args: Any, **options: Any) -> Any:
            await self.reach(before)
            found = await real(*args, **options)
            if found != 0:
                await self.reach(after)
            return found

        setattr(module, name, stepping)


class SteppingPublisher:
    """Reaches a step before and after each publish."""

    def __init__(self, publisher: Publisher, steps: Steps, what: str) -> None:
        self._publisher = publisher
        self._steps = steps
        self._what = what

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await self._steps.reach(f"{self._what} to publish")
        await self._publisher.publish(records)
        await self._steps.reach(f"{self._what} published")

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        await self._publisher.close()


class StaticBroker(EmbeddedBroker):
    """Takes over the partitions of a killed process at once, instead of after the end of its session."""

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return await super().consumer(replace(spec, instance_id=spec.group))


def decide(frame: FrameCaptured) -> DetectionsMade | ImageCorruptError:
    """A detector's answer: the picture with number 0 is broken, others show as many birds as their number."""
    number = int(str(frame.original_filename).removeprefix("picture").removesuffix(".jpg"))
    return answer_of(frame, [0.5] * number) if number else ImageCorruptError("the JPEG ends early")


async def main(dsn: str, data: Path, folder: Path, step: str, victim: str) -> None:
    """Work on the jobs in the database until SIGTERM."""
    server = EmbeddedPostgres(data)

    async def kill_itself() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def kill_database() -> None:
        await server.kill()
        restarts.append(asyncio.create_task(server.start()))

    if victim == "database":
        # Only its users can kill it.
        await server.start()
    restarts: list[asyncio.Task[str]] = []
    steps = Steps(step, kill_itself if victim == "process" else kill_database)
    steps.around(console.jobs.publisher, "mark_published", after="frames marked")
    steps.around(JobPublisher, "publish_some", after="frames committed")
    steps.around(sinks.postgres.sink, "count_results", before="rows written", after="results counted")
    steps.around(PostgresSink, "write", after="results committed")
    steps.around(sinks.postgres.jobs, "count_failures", after="failures counted")
    steps.around(JobFailures, "write", after="failures committed")
    steps.around(infra.outbox.relay, "remove_records", after="end removed")
    database = Database.open(DatabaseSettings(url=dsn, pool_max=8, command_timeout_s=5), folder)
    broker = StaticBroker(folder / "broker.db", load_topics())
    publisher, batches, health, stop = await broker.publisher(), BatchSettings(), Health(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    components: list[Component] = [
        JobPublisher(database, SteppingPublisher(publisher, steps, "frames"), ConsoleSettings(), RETRY),
        OutboxRelay(database, SteppingPublisher(publisher, steps, "end"), RETRY),
        *(
            SinkRunner(sink, broker, batches=batches, retry=RETRY)
            for sink in (PostgresSink(database), JobFailures(database))
        ),
    ]
    async with detecting(broker, decide):
        await asyncio.gather(*(each.run(stop, health.part(each.name)) for each in components))
    await asyncio.gather(*restarts)
    await database.close()
    await broker.close()
    if victim == "database":
        await server.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]))
