"""Fills the disk of the data folder (frames, and the embedded broker) for a while."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.campaign.disk import SmallDisk
from tests.campaign.faults.kind import Kind, whole


@dataclass
class DiskFull:
    """Leaves no free space."""

    disk: SmallDisk
    name: str = "disk full"

    async def start(self) -> None:
        await asyncio.to_thread(self.disk.fill)

    async def end(self) -> None:
        self.disk.free()


def kinds(disk: SmallDisk | None) -> list[Kind]:
    """Return the only kind, where there is a disk that may be filled."""
    if disk is None:
        return []
    return [Kind("disk_full", ("disk",), (1.0, 5.0), lambda _, rng: DiskFull(disk), 1.5, whole("disk"))]
