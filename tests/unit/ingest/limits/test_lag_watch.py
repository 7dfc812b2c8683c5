"""The watch of the lag gives signs of life; one that hangs is noticed."""

from __future__ import annotations

import asyncio

from infra.process.health import Health
from ingest.limits.lag import LagLimits
from ingest.limits.lag_watch import LagWatch
from ingest.limits.settings import LimitsSettings


class _Away:
    """Is a broker that cannot be reached."""

    async def admin(self) -> object:
        raise ConnectionError


async def test_watch_gives_signs_of_life_until_it_hangs() -> None:
    health, stop = Health(silence_s=0.3).part("lag"), asyncio.Event()
    limits = LagLimits(LimitsSettings(max_lag_frames=10))
    watch = LagWatch(_Away(), "detector", limits, 0.5)  # type: ignore[arg-type]
    watching = asyncio.create_task(watch.run(stop, health))
    await asyncio.sleep(0.6)
    assert health.report().ready
    watching.cancel()
    await asyncio.sleep(0.4)
    assert "no sign of life" in str(health.report().failure)
