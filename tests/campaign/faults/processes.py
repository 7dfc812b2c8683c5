"""Kills, restarts and freezes processes, for less and for longer than their session."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.campaign.faults.kind import Kind
from tests.campaign.processes import ProcessWatcher
from tests.faults.fleet import Fleet

_END_TIMEOUT_S = 45.0
_LONGER_THAN_SESSION_S = (11.0, 14.0)


@dataclass
class ProcessKilled:
    """Sends SIGKILL, and starts the process again after a while."""

    target: str
    fleet: Fleet
    watcher: ProcessWatcher

    @property
    def name(self) -> str:
        return f"kill {self.target}"

    async def start(self) -> None:
        self.watcher.check()
        self.fleet.take_down(self.target)

    async def end(self) -> None:
        self.fleet.bring_up(self.target)


@dataclass
class ProcessRestarted(ProcessKilled):
    """Sends SIGTERM; the process must end in bounded time, also during other faults."""

    @property
    def name(self) -> str:
        return f"restart {self.target}"

    async def start(self) -> None:
        self.watcher.check()
        try:
            await self.fleet.end(self.target, _END_TIMEOUT_S)
        except Exception as error:
            self.watcher.ended.append(f"{self.target} did not end within {_END_TIMEOUT_S:g} s of SIGTERM: {error}")
            self.fleet.take_down(self.target)
            raise


@dataclass
class ProcessFrozen(ProcessKilled):
    """Sends SIGSTOP, and SIGCONT after a while."""

    @property
    def name(self) -> str:
        return f"freeze {self.target}"

    async def start(self) -> None:
        self.watcher.check()
        self.fleet.freeze(self.target)

    async def end(self) -> None:
        self.fleet.thaw(self.target)


def kinds(fleet: Fleet, watcher: ProcessWatcher) -> list[Kind]:
    """Return all kinds that hit one process."""

    def killed(target: str, rng: random.Random) -> ProcessKilled:
        return ProcessKilled(target, fleet, watcher)

    def restarted(target: str, rng: random.Random) -> ProcessRestarted:
        return ProcessRestarted(target, fleet, watcher)

    def frozen(target: str, rng: random.Random) -> ProcessFrozen:
        return ProcessFrozen(target, fleet, watcher)

    found = []
    for service, weight in (("gateway", 1.0), ("detector", 2.0), ("postgres", 1.0), ("sse", 1.0)):
        targets = tuple(fleet.names(service))
        found += [
            Kind(f"kill_{service}", targets, (0.0, 3.0), killed, weight),
            Kind(f"restart_{service}", targets, (0.0, 0.5), restarted, weight / 2),
            Kind(f"freeze_{service}", targets, (0.5, 4.0), frozen, weight),
            Kind(f"freeze_{service}_long", targets, _LONGER_THAN_SESSION_S, frozen, weight / 4),
        ]
    return found
