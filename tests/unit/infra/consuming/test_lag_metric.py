"""The lag is read in a separate task: a read that hangs or fails delays nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from prometheus_client import REGISTRY

from infra.broker.port import Consumer, TopicPartition
from infra.consuming.lag_metric import report_lag
from infra.errors import BrokerUnavailableError


class Lagging:
    """Answers with the outcomes given, one after the other: an error, records behind, or None for never."""

    def __init__(self, *outcomes: Exception | int | None) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0
        self.at_last = asyncio.Event()

    async def lag(self) -> Mapping[TopicPartition, int]:
        self.asked += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if len(self.outcomes) == 1:
            self.at_last.set()
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return {TopicPartition("frames.live", partition): outcome or 0 for partition in range(2)}


def lag_of(group: str) -> float | None:
    return REGISTRY.get_sample_value("standgale_consumer_lag_records", {"group": group, "topic": "frames.live"})


async def test_report_lag_continues_after_errors_and_hanging_reads() -> None:
    inner = Lagging(BrokerUnavailableError("away"), None, KeyError("moved"), 7, None)
    consumer = cast(Consumer, inner)
    async with asyncio.timeout(30), report_lag(consumer, "g-lag", ("frames.live",), every_s=0.001, wait_s=0.01):
        await inner.at_last.wait()
        assert lag_of("g-lag") == 14
    assert inner.asked >= 4


async def test_report_lag_ends_without_waiting_for_a_read() -> None:
    inner = Lagging(None, None)
    consumer = cast(Consumer, inner)
    async with asyncio.timeout(30), report_lag(consumer, "g-hang", ("frames.live",), wait_s=3_600):
        await inner.at_last.wait()
    assert lag_of("g-hang") is None
