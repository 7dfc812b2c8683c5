"""Runs the Faust application as a component of the process, and starts it again after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.broker.port import Admin, Broker, Publisher
from infra.consuming.metrics import CONSUMER_LAG
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_text
from infra.failure.retry import ConsumerContext, StoppedError
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.topics import DETECTIONS, TopicSpec
from sinks.statistics.on_faust.application import KafkaAccess, make_application
from sinks.statistics.on_faust.counting import FaustCounting
from sinks.statistics.settings import FAUST_GROUP, StatisticsSettings

logger = logging.getLogger(__name__)

_START_S = 120.0
_STOP_S = 6.0
_LOOK_EVERY_S = 2.0
_REQUEST_S = 10.0
_STUCK_S = 60.0
"""A member that finishes no event for so long, while events wait, is started again."""


class FaustStuckError(Exception):
    """Faust does not go on, and says no error."""


class StatisticsOnFaust:
    """Is the component that counts detections on Kafka with Faust, and publishes the windows."""

    name = FAUST_GROUP

    def __init__(  # ``access`` is asked at each start, because a password may have changed
        self,
        broker: Broker,
        access: Callable[[], KafkaAccess],
        topics: Mapping[str, TopicSpec],
        settings: StatisticsSettings,
        retry: RetrySettings,
    ) -> None:
        self._broker = broker
        self._access = access
        self._topics = topics
        self._settings = settings
        self._retry = retry

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Count until ``stop`` is set; after an error of Faust it is not ready, and begins anew."""
        context = ConsumerContext(self._retry, stop, health, FAUST_GROUP)
        backoff = Backoff(self._retry)
        with suppress(StoppedError):
            async with AsyncExitStack() as stack:
                publisher = await context.retry(self._broker.publisher, "connecting to the broker")
                stack.push_async_callback(publisher.close)
                admin = await context.retry(self._broker.admin, "connecting to the broker")
                stack.push_async_callback(admin.close)
                while not stop.is_set():
                    try:
                        await self._run_once(context, publisher, admin)
                        backoff.reset()
                    except StoppedError:
                        raise
                    except Exception as error:
                        health.set_not_ready(f"Faust is started again: {error_text(error)}")
                        logger.exception("Faust is started again: %s", error_text(error))
                        await backoff.wait(stop)

    async def _run_once(self, context: ConsumerContext, publisher: Publisher, admin: Admin) -> None:
        """Run one application until ``stop`` is set. Raises what ended it before."""
        # Before Faust, which waits in silence for a broker that is away.
        await context.retry(lambda: _read_lag(admin), "reaching the broker")
        with TemporaryDirectory(prefix="standgale-faust-", ignore_cleanup_errors=True) as folder:
            app, source, table = make_application(self._access(), self._topics, Path(folder))
            partitions = self._topics[DETECTIONS].partitions
            counting = FaustCounting(
                table, context, publisher, partitions=partitions, remember_s=self._settings.remember_s
            )
            app.agent(source, name="count", concurrency=1)(counting.count)
            table.on_recover(counting.mark_all)
            app.finalize()
            async with _running(app, counting, context):
                await _first_end(
                    counting.acknowledge(),
                    self._publish(counting, context),
                    _watch(app, counting, context, admin),
                    _until_failed(counting),
                    _until_stop(context),
                )

    async def _publish(self, counting: FaustCounting, context: ConsumerContext) -> None:
        while not context.stop.is_set():
            while await context.retry(counting.publish_changed, "publishing statistics"):
                context.health.beat()
            with suppress(TimeoutError):
                await asyncio.wait_for(context.stop.wait(), self._settings.publish_s)


@asynccontextmanager
async def _running(app: Any, counting: FaustCounting, context: ConsumerContext) -> AsyncIterator[None]:
    """Start ``app``, and stop it after the block."""
    start = asyncio.ensure_future(app.start())
    stopped = asyncio.ensure_future(context.stop.wait())
    try:
        done, _ = await asyncio.wait(
            {start, stopped, counting.failed}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise FaustStuckError(f"Faust did not start within {_START_S:g} s")
        if stopped in done:
            raise StoppedError("Faust is not started: the process stops")
        await (start if start in done else counting.failed)
        yield
    finally:
        stopped.cancel()
        start.cancel()
        # A frozen broker never answers what Faust asks at its end; nothing is lost without the answer.
        with suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), _STOP_S)


async def _first_end(*works: Coroutine[None, None, object]) -> None:
    """Run ``works`` until the first of them ends, cancel the others, and raise the error of one that failed."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        await task


async def _until_failed(counting: FaustCounting) -> None:
    await counting.failed


async def _until_stop(context: ConsumerContext) -> None:
    await context.stop.wait()


async def _watch(app: Any, counting: FaustCounting, context: ConsumerContext, admin: Admin) -> None:
    """Show lag and readiness; raise an error when Faust has crashed, or does not go on although events come."""
    loop = asyncio.get_running_loop()
    seen, since, least = -1, loop.time(), 0
    while not context.stop.is_set():
        context.health.beat()
        if app.crashed:
            raise app.crash_reason or FaustStuckError("Faust has crashed, and gives no reason")
        lag = await context.retry(lambda: _read_lag(admin), "reading the lag")
        CONSUMER_LAG.labels(FAUST_GROUP, DETECTIONS).set(lag)
        # The marks of transactions count as lag that nobody commits, so only its growth says that events wait.
        if counting.acknowledged != seen or lag <= least or context.health.reason is not None:
            seen, since, least = counting.acknowledged, loop.time(), lag
        if loop.time() - since > _STUCK_S:
            raise FaustStuckError(f"no event was counted for {_STUCK_S:g} s, while {lag - least} records came")
        context.health.set_ready()
        with suppress(TimeoutError):
            await asyncio.wait_for(context.stop.wait(), _LOOK_EVERY_S)


async def _read_lag(admin: Admin) -> int:
    async with asyncio.timeout(_REQUEST_S):
        return sum((await admin.group_lag(FAUST_GROUP, (DETECTIONS,))).values())
