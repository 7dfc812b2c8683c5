"""Reads a consumer's lag in a separate task and sets its metric, so that no record is delayed by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from infra.broker.port import Consumer
from infra.consuming.metrics import CONSUMER_LAG
from infra.failure.error_texts import error_text

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""How often the lag is read."""
WAIT_S = 10.0
"""The time limit of one read."""


@asynccontextmanager
async def report_lag(
    consumer: Consumer, group: str, topics: Sequence[str], *, every_s: float = EVERY_S, wait_s: float = WAIT_S
) -> AsyncIterator[None]:
    """Set ``standgale_consumer_lag_records`` for ``topics`` every ``every_s`` while the block runs.

    A read that fails, or takes longer than ``wait_s``, leaves the metric as it is.
    """

    async def report() -> None:
        while True:
            await _report_once(consumer, group, topics, wait_s)
            await asyncio.sleep(every_s)

    task = asyncio.create_task(report(), name=f"{group}-lag")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _report_once(consumer: Consumer, group: str, topics: Sequence[str], wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            lag = await consumer.lag()
    except Exception as error:  # noqa: BLE001 (a failure of a metric must not stop records)
        logger.debug("the lag of %s is not known: %s", group, error_text(error))
        return
    for topic in topics:
        behind = sum(records for source, records in lag.items() if source.topic == topic)
        CONSUMER_LAG.labels(group, topic).set(behind)
