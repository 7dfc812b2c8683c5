"""Builds the component that pulls cameras, and says whether this installation can."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from infra.failure.retry import StoppedError
from infra.process.health import HealthPart
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.parts import AcceptanceParts
from ingest.sources.keeper import SourceKeeper
from ingest.sources.running import PullParts
from ingest.sources.table import SourceTable
from schemas import topics
from standgale.services.composition import Composition


def can_pull() -> bool:
    """Return whether PyAV is installed, the extra "video"."""
    return find_spec("av") is not None


class SourcesComponent:
    """Pulls this process's share of the sources, once the broker is available."""

    name = "sources"

    def __init__(self, process: Composition) -> None:
        self._process = process

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Pull until ``stop`` is set."""
        process, settings = self._process, self._process.settings
        try:
            publisher = await process.publisher(stop, health)
        except StoppedError:
            return
        try:
            acceptance = Acceptance(
                AcceptanceParts(
                    settings.gateway,
                    # Never asked: frames of sources come without a token.
                    process.verifier(),
                    process.store(),
                    publisher,
                    readiness=process.readiness(),
                    frame_partitions=process.topics[topics.FRAMES_LIVE].partitions,
                    clock=process.gateway_clock(),
                    lag=process.lag_limits(),
                )
            )
            parts = PullParts(acceptance, settings.sources, settings.video, settings.retry, settings.source_logins)
            await SourceKeeper(SourceTable(process.database()), parts).run(stop, health)
        finally:
            await publisher.close()
