"""Defines the port of model stores: versions that never change, and artefacts that belong to a version.

A version is a folder ``<name>/<version>/`` with ``model.yaml``, the ONNX file that its card names, and all other files
that it names (weights outside that file, a tokenizer). The folder also has artefacts: files that were made from the
model for a kind of machine (a TensorRT engine), each with its SHA-256 in ``<artefact>.sha256``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from detectors.card.card import ModelCard
from schemas.event_base import ModelRef


class ModelStore(Protocol):
    """Stores models.

    Every method raises TransientError when the store is unavailable: try again. It raises ModelStoreError, a
    ModelLoadError, when a setting of the store is wrong.
    """

    async def versions(self) -> Sequence[ModelRef]:
        """Return all versions, by name, then by version. Raises ModelStoreError where the store cannot list them."""
        ...

    async def card(self, model: ModelRef) -> ModelCard:
        """Return the card of ``model`` without its files. Raises ModelLoadError when the store has no such version."""
        ...

    async def fetch(self, model: ModelRef, model_cache: Path) -> Path:
        """Fetch ``model`` into ``model_cache / name / version`` and return its card; files that exist are kept.

        A file appears complete or not at all, and only when its checksum is right. Raises ModelLoadError when the store
        has no such version, or its files differ from the card.
        """
        ...

    async def publish(self, card: Path) -> ModelRef:
        """Publish the model of ``card``, its files first, the card last; publishing it again changes nothing.

        Raises ModelLoadError when the files differ from the card, or the version exists with other content.
        """
        ...

    async def fetch_artefact(self, model: ModelRef, name: str, model_cache: Path) -> Path | None:
        """Fetch artefact ``name`` of ``model`` into ``model_cache / name / version``; None when the store has none.

        A damaged artefact counts as none: it can be made again, and publishing it repairs the store.
        """
        ...

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        """Publish ``file`` as an artefact of ``model``, under its own name."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
