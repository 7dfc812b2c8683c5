"""Counts the streams of events, and ends them when the process stops."""

from __future__ import annotations

import asyncio

from console.media.settings import MediaSettings
from infra.http_api.errors.api_errors import OverloadedError
from infra.process.health import HealthPart


class MediaStreams:
    """Counts the streams, and is the component that ends them when the process stops."""

    name = "media-streams"

    def __init__(self, settings: MediaSettings) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self.open = 0

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Wait for ``stop``."""
        health.set_ready()
        await stop.wait()
        self.stopping.set()

    def require_room(self) -> None:
        """Raise OverloadedError when as many streams are open as there may be."""
        if self.open >= self.settings.max_streams:
            raise OverloadedError(
                f"{self.open} streams of events are open, as many as there may be (media.max_streams)",
                details="Close some of them, or try again later.",
                headers={"Retry-After": "5"},
            )
