"""Reads each partition of the topic ``detections``, and checks that it is still the same topic.

A partition that cannot be read (its leader is unavailable, or hangs) is named in health and tried again; the others
continue. A check every few seconds notices that the topic was deleted, created again, or got more partitions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager
from typing import Self

from infra.broker.port import Broker, InRecord, Reader, TopicPartition
from infra.broker.reading import opened_reader, respond_within
from infra.errors import TopicMismatchError, TransientError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_text
from infra.failure.metrics import RETRIES
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.errors import StandgaleError
from schemas.topics import DETECTIONS
from sinks.settings import SseSettings
from sinks.sse.history import GROUP, steady_bounds
from sinks.sse.intake import StreamIntake
from sinks.sse.positions import mark_of, origin_of

logger = logging.getLogger(__name__)

_MAX_READ_RECORDS = 128
_READ_TIMEOUT_S = 1.0
_HANG_S = 10.0
"""A call to the broker that takes longer is given up and repeated with a new connection."""
_LOOK_EVERY_S = 2.0
_LOOK_TIMEOUT_S = 3.0
_LOOKS_FAIL_S = 10.0
"""Checks must fail for so long before it is reported, because only one of many nodes may be frozen."""
_SILENCE_S = 30.0
"""After so long without a read (a paused process) retention may have deleted the next records."""
_TOPIC = f"topic {DETECTIONS}"


class _TopicRecreatedError(StandgaleError):
    """The topic was deleted and created again, so no position is valid."""


class TopicFollower:
    """Reads records into ``intake``; ``run`` ends only when it is cancelled."""

    def __init__(
        self, broker: Broker, intake: StreamIntake, health: HealthPart, settings: SseSettings, retry: RetrySettings
    ) -> None:
        self._broker = broker
        self._intake = intake
        self._health = health
        self._retry = retry
        self._max_read = min(_MAX_READ_RECORDS, max(1, settings.client_queue_events // 8))

    async def run(self) -> None:
        """Follow the topic, from its start when it was created again."""
        step = _RetriedStep(self._health, "reading detections", self._retry)
        while True:
            try:
                await self._begin()
                step.succeeded()
                self._health.set_ready()
                await self._follow_all()
            except _TopicRecreatedError as error:
                logger.error("%s", error)
            except TransientError as error:
                await step.wait(error)

    async def _begin(self) -> None:
        async with self._reader() as reader:
            state = await respond_within(reader.state(DETECTIONS), _HANG_S, _TOPIC)
            self._intake.begin(state, await respond_within(reader.bounds(DETECTIONS), _HANG_S, _TOPIC))

    async def _follow_all(self) -> None:
        tasks = [
            asyncio.create_task(self._follow(partition), name=f"sse-follow-{partition}")
            for partition in range(len(self._intake.position))
        ]
        tasks.append(asyncio.create_task(self._watch(), name="sse-watch"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, partition: int) -> None:
        """Read one partition; begin again after growing pauses when that fails or hangs."""
        with _RetriedStep(self._health, f"partition {partition}", self._retry) as step:
            while True:
                try:
                    async with self._reader() as reader:
                        await self._check_position(reader, partition)
                        await self._read_on(reader, partition, step)
                except TransientError as error:
                    await step.wait(error)

    async def _check_position(self, reader: Reader, partition: int) -> None:
        """Check that the topic still has the next record of ``partition``, and move the position if not."""
        what = f"{DETECTIONS}/{partition}"
        mark = await self._same_topic(reader, _HANG_S)
        origin = origin_of(self._intake.ring.mark, mark)
        asked = steady_bounds(reader, self._intake.position, origin, [partition])
        self._intake.apply_bounds(mark, await respond_within(asked, _HANG_S, what))

    async def _read_on(self, reader: Reader, partition: int, step: _RetriedStep) -> None:
        """Read records; return when the time between two reads was so long that the next ones may be deleted."""
        read_at = time.monotonic()
        while True:
            await self._intake.wait_until_readable(partition)
            self._health.beat()
            records = await self._read(reader, partition)
            step.succeeded()
            before, read_at = read_at, time.monotonic()
            if read_at - before > _SILENCE_S:
                return
            await self._intake.add_records(partition, records)
            self._health.set_note("newer events", self._intake.note)

    async def _read(self, reader: Reader, partition: int) -> list[InRecord]:
        source = TopicPartition(DETECTIONS, partition)
        offset = self._intake.position[partition]
        read = reader.read(source, offset, max_records=self._max_read, timeout_s=_READ_TIMEOUT_S)
        return await respond_within(read, _HANG_S, f"{DETECTIONS}/{partition}")

    async def _watch(self) -> None:
        """Check the topic every few seconds.

        Raises _MadeAgainError when it was created again, and TopicMismatchError when it is missing or has a different
        number of partitions. Reading then stops, so that no event of a new topic counts as one of the former topic.
        """
        failing_since: float | None = None
        with _RetriedStep(self._health, _TOPIC, self._retry) as step:
            while True:
                try:
                    async with self._reader() as reader:
                        while True:
                            await self._same_topic(reader, _LOOK_TIMEOUT_S)
                            failing_since = None
                            step.succeeded()
                            await asyncio.sleep(_LOOK_EVERY_S)
                except TopicMismatchError:
                    raise
                except TransientError as error:
                    now = time.monotonic()
                    failing_since = now if failing_since is None else failing_since
                    if now - failing_since > _LOOKS_FAIL_S:
                        step.report(error)
                    await asyncio.sleep(min(_LOOK_EVERY_S, self._retry.max_delay_s))

    async def _same_topic(self, reader: Reader, timeout_s: float) -> str:
        """Return the topic's mark; raise when it is not the topic that is followed."""
        state = await respond_within(reader.state(DETECTIONS), timeout_s, _TOPIC)
        mark = mark_of(state.incarnation)
        if origin_of(self._intake.ring.mark, mark) == "former":
            raise _TopicRecreatedError(f"topic {DETECTIONS} was deleted and created again; it is sent from its start")
        self._intake.require_partitions(state.partitions)
        return mark

    def _reader(self) -> AbstractAsyncContextManager[Reader]:
        return opened_reader(self._broker.reader(), _HANG_S)


class _RetriedStep:
    """Reports one step that fails in health and metrics, and waits before each new attempt."""

    def __init__(self, health: HealthPart, what: str, retry: RetrySettings) -> None:
        self._health = health
        self._what = what
        self._backoff = Backoff(retry)
        self._tries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the step from health, because it is no longer tried."""
        self._health.clear_waiting(self._what)

    async def wait(self, error: TransientError) -> None:
        """Report ``error`` and wait until the next attempt."""
        self.report(error)
        await asyncio.sleep(self._backoff.next_delay_s())

    def report(self, error: TransientError) -> None:
        """Report in health that the step waits because of ``error``; streams stay open."""
        self._tries += 1
        self._health.beat()
        self._health.set_waiting(self._what, f"{self._what}: {error_text(error)} (streams stay open)")
        RETRIES.labels(GROUP, error.code).inc()
        # The first failure and then each tenth: a long outage must not fill the disk with logs.
        level = logging.WARNING if self._tries % 10 == 1 else logging.DEBUG
        text = "following %s was interrupted and is tried again: %s"
        logger.log(level, text, self._what, error, extra={"tries": self._tries})

    def succeeded(self) -> None:
        """Report that the step works."""
        if self._tries:
            self._tries = 0
            self._backoff.reset()
            self._health.clear_waiting(self._what)
            logger.info("%s is followed again", self._what)
