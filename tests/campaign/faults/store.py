"""Kills the object store and starts it again with its stored objects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from infra.deploy.s3 import S3Server
from tests.campaign.faults.kind import Kind, whole


@dataclass
class StoreKilled:
    """Sends SIGKILL, and starts the server again after a while."""

    s3: S3Server
    name: str = "kill S3"

    async def start(self) -> None:
        await asyncio.to_thread(self.s3.kill)

    async def end(self) -> None:
        await asyncio.to_thread(self.s3.start)


def kinds(s3: S3Server | None) -> list[Kind]:
    """Return the only kind, where frames are in an object store."""
    if s3 is None:
        return []
    return [Kind("store_killed", ("store",), (0.5, 5.0), lambda _, rng: StoreKilled(s3), 1.5, whole("store"))]
