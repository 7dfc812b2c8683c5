"""The object store is killed, and comes back with what it had."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from infra.deploy.s3 import S3Server
from tests.campaign.faults.kind import Kind, whole


@dataclass
class StoreKilled:
    """SIGKILL, started again after a while."""

    s3: S3Server
    name: str = "kill S3"

    async def strike(self) -> None:
        await asyncio.to_thread(self.s3.kill)

    async def heal(self) -> None:
        await asyncio.to_thread(self.s3.start)


def kinds(s3: S3Server | None) -> list[Kind]:
    """The one kind, where frames lie in an object store."""
    if s3 is None:
        return []
    return [Kind("store_killed", ("store",), (0.5, 5.0), lambda _, rng: StoreKilled(s3), 1.5, whole("store"))]
