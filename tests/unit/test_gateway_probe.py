"""The probe turns what a part answers into readiness, and goes on asking whatever it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from infra.errors import StoreUnavailableError
from infra.health import Health
from ingest.gateway.probe import DependencyProbe


async def _readiness(answers: list[Callable[[], Awaitable[None]]]) -> list[str | None]:
    """What the health of the part says after each of ``answers``."""
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

    probe = DependencyProbe("store", check, interval_s=0.001, timeout_s=0.05)
    await asyncio.wait_for(probe.run(stop, health.part("store")), 5)
    return seen


async def _well() -> None:
    return


async def _away() -> None:
    raise StoreUnavailableError("cannot write to /srv/frames: no space left")


async def _hanging() -> None:
    await asyncio.sleep(60)


async def test_a_part_goes_and_comes_back() -> None:
    assert await _readiness([_well, _away, _well, _hanging]) == [
        None,
        "STORAGE_UNAVAILABLE",
        None,
        "no answer in time",
    ]
