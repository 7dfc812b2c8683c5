"""Gives a test a place for models, means to change it from outside, and models to put into it."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from detectors.store.blobs import Blobs, OnTransfer, ignore_transfer
from detectors.store.versions import VersionStore

MEGABYTE = 1_048_576


class ModelStoreHarness:
    """A place for models in one test, and what happens to it from outside; an author derives from it.

    A place implements :class:`detectors.store.blobs.Blobs`; :class:`detectors.store.versions.VersionStore` makes a
    model store of it.
    """

    lists_versions = True
    """Whether the place can say which models it has."""
    refuses_to_replace = True
    """Whether ``put`` with ``new`` leaves what is there already as it is."""

    def __init__(self) -> None:
        self._stores: list[VersionStore] = []

    def open_blobs(self) -> Blobs:
        """Open the place, as another process would."""
        raise NotImplementedError

    def take_away(self) -> None:
        """Make the place unavailable: stop its server, move its folder."""
        raise NotImplementedError

    def bring_back(self) -> None:
        """Make the place available again, with all it had."""
        raise NotImplementedError

    def store(self, on_transfer: OnTransfer = ignore_transfer, *, max_file_bytes: int = 20_000_000_000) -> VersionStore:
        """Open a store of its own, as another process would; it is closed after the test."""
        return self.keep(VersionStore(self.open_blobs(), max_file_bytes, on_transfer))

    def keep(self, store: VersionStore) -> VersionStore:
        """Close ``store`` after the test; returns it."""
        self._stores.append(store)
        return store

    async def close(self) -> None:
        """Close all stores."""
        for store in self._stores:
            await store.close()

    async def alter(self, key: str, content: bytes) -> None:
        """Put ``content`` under ``key``, whatever the store would say to it."""
        blobs = self.open_blobs()
        try:
            await blobs.put(key, content, new=False)
        finally:
            await blobs.close()

    async def content(self, key: str) -> bytes:
        """Return the bytes under ``key``."""
        blobs = self.open_blobs()
        try:
            async with blobs.read(key) as download:
                return b"".join([chunk async for chunk in download.chunks])
        finally:
            await blobs.close()


def make_model(
    folder: Path,
    *,
    name: str = "finder",
    version: str = "1.0.0",
    size: int = 1000,
    tokenizer: bool = False,
    external: bool = False,
    **changes: object,
) -> Path:
    """A card in ``folder``, beside an ONNX file with ``size`` bytes of weights; ``changes`` replaces fields of it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(np.frombuffer(os.urandom(size), np.uint8), "weights")
    files = {}
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["images"], ["out"])],
            "g",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 64, 64])],
            [weights],
        )
    )
    where: dict[str, Any] = (
        {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0} if external else {}
    )
    onnx.save_model(model, str(folder / "model.onnx"), **where)
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps({"version": uuid4().hex}))
        files["tokenizer.json"] = digest(folder / "tokenizer.json")
    if external:
        files["model.onnx.data"] = digest(folder / "model.onnx.data")
    fields: dict[str, object] = {
        "name": name,
        "version": version,
        "file": "model.onnx",
        "sha256": digest(folder / "model.onnx"),
        "files": files,
        "input": {"width": 64, "height": 64},
        "classes": [{"name": "thing"}],
        "licence": "Apache-2.0",
        **({"text": {"tokenizer": "tokenizer.json"}} if tokenizer else {}),
        **changes,
    }
    card = folder / "model.yaml"
    card.write_text("# Written by hand.\n" + yaml.safe_dump(fields))
    return card


def digest(path: Path) -> str:
    """The file's SHA-256."""
    return sha256(path.read_bytes()).hexdigest()


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
