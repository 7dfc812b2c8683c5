"""The probe turns the result of checks into readiness, and continues after every error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from infra.errors import RefusedError, SettingsError, StoreUnavailableError, TopicMismatchError
from infra.process.health import Health, HealthPart
from ingest.readiness.outcomes import Readiness
from ingest.readiness.probe import DependencyProbe

Check = Callable[[], Coroutine[None, None, None]]


async def _readiness(answers: list[Check]) -> list[str | None]:
    """Return the part's reason in health after each of ``answers``."""
    health, stop = Health(), asyncio.Event()
    seen: list[str | None] = []
    rest = list(answers)

    async def check() -> None:
        if len(rest) < len(answers):
            seen.append(health.part("store").report().reason)
        if not rest:
            stop.set()
            return
        await rest.pop(0)()

    readiness = Readiness(health.part("store"), idle_s=0.0)
    probe = DependencyProbe("store", check, readiness, interval_s=0.001, timeout_s=5)
    await asyncio.wait_for(probe.run(stop, health.part("store")), 20)
    return seen


async def _well() -> None:
    return


def _raising(error: Exception) -> Check:
    async def check() -> None:
        raise error

    return check


async def test_probe_follows_a_part_that_fails_and_recovers() -> None:
    away = _raising(StoreUnavailableError("cannot write to /srv/frames: no space left"))
    assert await _readiness([_well, away, _well, _raising(TimeoutError())]) == [
        None,
        "STORAGE_UNAVAILABLE",
        None,
        "no response in time",
    ]


async def test_no_error_ends_the_probe() -> None:
    errors = [
        TopicMismatchError("gone"),
        RefusedError("no"),
        SettingsError("no"),
        OSError("no"),
        RuntimeError("defect"),
    ]
    codes = ["TOPIC_MISMATCH", "REFUSED", "INVALID_SETTING", "UNAVAILABLE", "UNEXPECTED_ERROR"]
    assert await _readiness([*map(_raising, errors), _well]) == [*codes, None]


async def test_a_check_that_hangs_is_not_asked_again_before_it_ended() -> None:
    health, stop, free = Health(), asyncio.Event(), asyncio.Event()
    part = health.part("store")
    calls = 0

    async def check() -> None:
        nonlocal calls
        calls += 1
        await free.wait()

    probe = DependencyProbe("store", check, Readiness(part, idle_s=0.0), interval_s=0.001, timeout_s=0.02)
    running = asyncio.create_task(probe.run(stop, part))
    try:
        await _until(part, "no response in time")
        await asyncio.sleep(0.1)
        assert calls == 1
        free.set()
        await _until(part, None)
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def test_probe_gives_signs_of_life_until_it_hangs() -> None:
    part = Health(silence_s=0.3).part("store")
    probe = DependencyProbe("store", _well, Readiness(part, idle_s=0.0), interval_s=0.5)
    running = asyncio.create_task(probe.run(asyncio.Event(), part))
    await asyncio.sleep(0.6)
    assert part.report().failure is None
    running.cancel()
    await asyncio.sleep(0.4)
    assert "no sign of life" in str(part.report().failure)


async def _until(part: HealthPart, reason: str | None) -> None:
    for _ in range(2_000):
        if part.reason == reason:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{part.reason} after 20 s")
