"""A flood of events of one kind has some lines in the log, then one with their number."""

from __future__ import annotations

import asyncio
import logging

import pytest

from infra.telemetry.logs import bind, current_ids
from infra.telemetry.sampled_log import SampledLog

logger = logging.getLogger("flooded")


async def test_sampled_log_writes_some_lines_then_the_number_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log = SampledLog(logger, burst=3, every_s=0.1)
    with bind(request_id="r-1"):
        for number in range(10):
            log.log(logging.WARNING, "refused", "number %d", number)
        log.log(logging.WARNING, "different", "one of another kind")
    assert caplog.messages == ["number 0", "number 1", "number 2", "one of another kind"]
    await asyncio.sleep(0.15)
    assert caplog.messages[4:] == ["refused: 7 more like this in 0.1 s, not logged one by one"]
    log.log(logging.WARNING, "refused", "a new interval")
    assert caplog.messages[5:] == ["a new interval"]


async def test_sampled_log_of_a_level_that_is_off_counts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log = SampledLog(logger, burst=1, every_s=0.01)
    for _ in range(3):
        log.log(logging.INFO, "refused", "unseen")
    await asyncio.sleep(0.03)
    assert caplog.messages == []


async def test_sampled_log_summary_carries_no_request_id(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, str]] = []
    logger.addFilter(lambda _: seen.append(dict(current_ids())) or True)
    log = SampledLog(logger, burst=1, every_s=0.02)
    with bind(request_id="r-1"):
        for _ in range(2):
            log.log(logging.WARNING, "refused", "line")
    await asyncio.sleep(0.05)
    logger.filters.clear()
    assert seen == [{"request_id": "r-1"}, {}]
