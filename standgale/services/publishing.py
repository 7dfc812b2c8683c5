"""Runs components that publish, once the broker is available."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from infra.broker.port import Publisher
from infra.failure.retry import StoppedError
from infra.process.components import Component
from infra.process.health import HealthPart
from standgale.services.composition import Composition


class PublishingComponent:
    """Runs a component that publishes, once the broker is available."""

    def __init__(self, name: str, process: Composition, make: Callable[[Publisher], Component]) -> None:
        self.name = name
        self._process = process
        self._make = make

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Run until ``stop`` is set."""
        try:
            publisher = await self._process.publisher(stop, health)
        except StoppedError:
            return
        try:
            await self._make(publisher).run(stop, health)
        finally:
            await publisher.close()
