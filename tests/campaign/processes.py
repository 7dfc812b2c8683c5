"""Watches the processes of the fleet, and notes and restarts each one that ends unexpectedly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from tests.faults.fleet import Fleet

_CHECK_INTERVAL_S = 0.25


@dataclass
class ProcessWatcher:
    """Restarts processes as a service manager does, and records each unexpected exit."""

    fleet: Fleet
    ended: list[str] = field(default_factory=list)

    async def watch(self) -> None:
        """Check the fleet repeatedly until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(_CHECK_INTERVAL_S)

    def check(self) -> None:
        """Record and restart each process that has ended unexpectedly."""
        for name, status in self.fleet.ended().items():
            lines = self.fleet.log(name).strip().splitlines()
            self.ended.append(
                f"{time.strftime('%H:%M:%S')} {name} ended with {status}: {' | '.join(lines[-2:])[-900:]}"
            )
            self.fleet.bring_up(name)


async def unready(health_urls: Mapping[str, str]) -> dict[str, str]:
    """Return the readiness reports of processes that are not ready, by name; ``health_urls`` are those to ask."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        found = await asyncio.gather(*(_state(session, url) for url in health_urls.values()))
    return {name: text for name, text in zip(health_urls, found, strict=True) if text is not None}


async def _state(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url) as response:
            return None if response.status == 200 else (await response.text())[:600]
    except (aiohttp.ClientError, TimeoutError) as error:
        return repr(error)
