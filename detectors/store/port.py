"""The port of model stores: versions that never change, fetched and checked, and files that belong to a version.

A version is a folder ``<name>/<version>/`` with ``model.yaml``, the ONNX file its card names, and whatever else it
names (weights outside that file, a tokenizer). Beside them lie artefacts: files made from the model for a kind of
machine (a TensorRT engine), each with its SHA-256 in ``<artefact>.sha256``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from schemas.event_base import ModelRef


class ModelStore(Protocol):
    """Stores models. Every method raises TransientError when the store is away, and is worth trying again then; it
    raises ModelStoreError, a ModelLoadError, when a setting of the store is wrong.
    """

    async def versions(self) -> Sequence[ModelRef]:
        """All versions there are, by name, then by version; where the store cannot tell, ModelStoreError."""
        ...

    async def fetch(self, model: ModelRef, into: Path) -> Path:
        """Bring ``model`` into ``into / name / version`` and return its card; what is there already stays.

        Files appear whole or not at all, and only when their checksums hold. Raises ModelLoadError when the store has
        no such version, or files that are not what the card says.
        """
        ...

    async def publish(self, card: Path) -> ModelRef:
        """Put the model of ``card`` into the store, its files first, the card last; the same again changes nothing.

        Raises ModelLoadError when the files are not what the card says, or the version is there with other content.
        """
        ...

    async def fetch_artefact(self, model: ModelRef, name: str, into: Path) -> Path | None:
        """Bring artefact ``name`` of ``model`` into ``into / name / version``; None when the store has none that is
        whole. One that is damaged counts as none: it can be made again, and publishing it mends the store.
        """
        ...

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        """Put ``file`` into the store as an artefact of ``model``, under its own name."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
