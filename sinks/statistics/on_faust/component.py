"""Runs the Faust application as a component of the process, and starts it again after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
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
from infra.waiting import wait_until_set
from schemas.topics import DETECTIONS, TopicSpec
from sinks.statistics.on_faust.application import KafkaAccess, make_application
from sinks.statistics.on_faust.counting import FaustCounting
from sinks.statistics.on_faust.running import FaustStuckError, running
from sinks.statistics.settings import FAUST_GROUP, StatisticsSettings

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_REQUEST_S = 10.0
_STUCK_S = 60.0
"""A member that does not go on for so long, while it reads its table or events wait, is started again."""
_LONG_S = 300.0
"""An error after so long is a new one, so the first wait after it is short again."""
_READING = "Faust joins its group and reads its table"


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
                loop = asyncio.get_running_loop()
                while not stop.is_set():
                    began = loop.time()
                    try:
                        await self._run_once(context, publisher, admin)
                    except StoppedError:
                        raise
                    except Exception as error:
                        if loop.time() - began > _LONG_S:
                            backoff.reset()
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
            async with running(app, counting.failed, context.stop):
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
            await wait_until_set(context.stop, self._settings.publish_s)


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
    """Show lag and readiness; raise an error when Faust has crashed, or does not go on."""
    loop = asyncio.get_running_loop()
    seen, since, least = (-1, -1), loop.time(), 0
    while not context.stop.is_set():
        context.health.beat()
        if app.crashed:
            raise app.crash_reason or FaustStuckError("Faust has crashed, and gives no reason")
        lag = await context.retry(lambda: _read_lag(admin), "reading the lag")
        CONSUMER_LAG.labels(FAUST_GROUP, DETECTIONS).set(lag)
        is_reading = not app.tables.actives_ready
        progress = counting.acknowledged, app.tables.recovery.active_remaining_total() if is_reading else -1
        if is_reading:
            context.health.set_not_ready(_READING)
        else:
            context.health.set_ready()
        # The marks of transactions count as lag that nobody commits, so only its growth says that events wait.
        waits = is_reading or lag > least
        if progress != seen or not waits or context.health.reason not in (None, _READING):
            seen, since, least = progress, loop.time(), lag
        if loop.time() - since > _STUCK_S:
            what = "its table is not read" if is_reading else f"no event was counted, while {lag - least} records came"
            raise FaustStuckError(f"for {_STUCK_S:g} s {what}")
        await wait_until_set(context.stop, _LOOK_EVERY_S)


async def _read_lag(admin: Admin) -> int:
    async with asyncio.timeout(_REQUEST_S):
        return sum((await admin.group_lag(FAUST_GROUP, (DETECTIONS,))).values())
