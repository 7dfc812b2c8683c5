"""Retries of operations that fail with transient errors."""

from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client import REGISTRY

from infra.errors import DatabaseUnavailableError, ImageMissingError
from infra.failure.retry import StoppedError, retry
from infra.failure.settings import RetrySettings
from infra.process.health import Health, HealthPart

QUICK = RetrySettings(first_delay_s=0.001, max_delay_s=0.002)


@pytest.fixture
def part() -> HealthPart:
    return Health().part("test-failure")


async def test_before_retry_error_ends_the_retries(part: HealthPart, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tries: list[str] = []

    async def operation() -> None:
        tries.append("try")
        raise DatabaseUnavailableError("away")

    async def before_retry() -> None:
        tries.append("look")
        if len(tries) >= 4:
            raise ImageMissingError("no longer ours")

    with pytest.raises(ImageMissingError):
        await retry(
            operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing", before_retry=before_retry
        )
    assert tries == ["try", "look", "try", "look"]
    assert "works again" not in caplog.text


async def test_retry_waits_for_transient_errors_and_reports_them(
    part: HealthPart, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    part.set_ready()
    reasons: list[str | None] = []
    outcomes: list[Exception | str] = [DatabaseUnavailableError("starting up"), ConnectionRefusedError("no"), "done"]

    async def operation() -> str:
        reasons.append(part.reason)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    labels = {"group": "g-retrying", "reason": "DATABASE_UNAVAILABLE"}
    result = await retry(
        operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing to x", group="g-retrying"
    )
    assert result == "done"
    assert [record.message for record in caplog.records if "again" in record.message] == [
        "writing to x: starting up; it is tried again",
        "writing to x: works again",
    ]
    assert reasons == [None, "writing to x: starting up", "writing to x: ConnectionRefusedError: no"]
    assert part.reason is None
    assert REGISTRY.get_sample_value("standgale_retries_total", labels) == 1


async def test_retry_does_not_make_a_starting_part_ready(part: HealthPart) -> None:
    outcomes: list[Exception | None] = [TimeoutError(), None]

    async def operation() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="opening x")
    assert part.reason == "starting"


async def test_retry_raises_errors_that_are_not_transient(part: HealthPart) -> None:
    async def operation() -> None:
        raise ImageMissingError("gone")

    with pytest.raises(ImageMissingError):
        await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="reading")


async def test_retry_raises_stopped_error_at_a_stop(part: HealthPart, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stop = asyncio.Event()

    async def operation() -> None:
        stop.set()
        raise DatabaseUnavailableError("away")

    slow = RetrySettings(first_delay_s=60.0, max_delay_s=60.0)
    with pytest.raises(StoppedError, match="writing: given up after 1 try because") as caught:
        await retry(operation, policy=slow, stop=stop, health=part, what="writing")
    assert isinstance(caught.value.__cause__, DatabaseUnavailableError)
    assert part.reason == "starting"
    assert "works again" not in caplog.text


async def test_a_long_outage_does_not_flood_the_log(part: HealthPart, caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def operation() -> None:
        nonlocal tries
        tries += 1
        if tries <= 25:
            raise DatabaseUnavailableError("away")

    with caplog.at_level(logging.INFO, "infra.failure.retry"):
        await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["INFO"]
