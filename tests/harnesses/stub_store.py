"""Is a model store of which a test writes what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectors.card.card import ModelCard
from schemas.event_base import ModelRef


class StubStore:
    """Raises NotImplementedError at each call that a test has not written."""

    async def versions(self) -> Sequence[ModelRef]:
        raise NotImplementedError

    async def card(self, model: ModelRef) -> ModelCard:
        raise NotImplementedError

    async def fetch(self, model: ModelRef, model_cache: Path) -> Path:
        raise NotImplementedError

    async def publish(self, card: Path) -> ModelRef:
        raise NotImplementedError

    async def fetch_artefact(self, model: ModelRef, name: str, model_cache: Path) -> Path | None:
        raise NotImplementedError

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Close nothing."""
