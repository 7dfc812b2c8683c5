"""Adds partitions by the procedure of the operations manual: a planned stop without other faults."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass

from schemas.topics import FRAMES_LIVE
from tests.campaign.faults.kind import EVERYTHING, Kind, whole
from tests.campaign.site import GROUPS, Site

_DRAIN_TIMEOUT_S = 180.0
_END_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 120


@dataclass
class PartitionsDoubled:
    """Stops gateways, waits until every group has drained, adds partitions, and starts everything again."""

    site: Site
    name: str = "partitions doubled"

    async def start(self) -> None:
        site, fleet = self.site, self.site.fleet
        await self._end(fleet.names("gateway"))
        await self._drained()
        await self._end([name for name in fleet.names() if not name.startswith("gateway")])
        spec = site.broker.topics()[FRAMES_LIVE]
        former = site.broker.topics_file.read_text()
        site.write_topics(*reversed(spec.former_counts), spec.partitions, 2 * spec.partitions)
        try:
            await asyncio.to_thread(self._apply)
        except BaseException:
            site.broker.topics_file.write_text(former)
            raise

    async def end(self) -> None:
        for name in self.site.fleet.names():
            if self.site.fleet.is_down(name):
                self.site.fleet.bring_up(name)

    async def _end(self, names: Collection[str]) -> None:
        await asyncio.gather(*(self.site.fleet.end(name, _END_TIMEOUT_S) for name in names))

    async def _drained(self) -> None:
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while lag := await self.site.broker.lag(GROUPS):
            if time.monotonic() > deadline:
                raise TimeoutError(f"groups still lag by {lag} after {_DRAIN_TIMEOUT_S:g} s without gateways")
            await asyncio.sleep(0.3)

    def _apply(self) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "standgale", "topics", "apply"],
            env=self.site.fleet.environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"standgale topics apply ended with {done.returncode}: {done.stdout}{done.stderr}")


def kinds(site: Site) -> list[Kind]:
    """Return the only kind."""
    return [
        Kind(
            "partitions_doubled",
            ("topics",),
            (0.0, 0.0),
            lambda _, rng: PartitionsDoubled(site),
            0.2,
            whole(EVERYTHING),
            at_most=2,
        )
    ]
