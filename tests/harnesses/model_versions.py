"""Makes model versions that differ in what they compute, and a store to fetch them from."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from detectors.card.card import read_card, verified_model_file
from detectors.errors import ModelLoadError
from infra.errors import TransientError
from schemas.event_base import ModelRef
from standgale.testing.graphs import SCORES, GraphSpec, change_graph, write_model
from tests.harnesses.stub_store import StubStore

NAME = "rectangles"


def write_version(folder: Path, version: str, scores: float, spec: GraphSpec | None = None, **card: object) -> Path:
    """Write ``version`` of the model; its graph gives a red rectangle the score 0.9 times ``scores``."""
    path = write_model(folder / NAME / version, spec, version=version, **card)

    def scale(model: onnx.ModelProto) -> None:
        wanted = np.diag(np.asarray(SCORES, np.float32))
        (place,) = (
            number
            for number, one in enumerate(model.graph.initializer)
            if numpy_helper.to_array(one).shape == (3, 3) and np.allclose(numpy_helper.to_array(one), wanted)
        )
        former = model.graph.initializer[place]
        former.CopyFrom(numpy_helper.from_array(wanted * np.float32(scores), former.name))

    return change_graph(path, scale)


class CopyStore(StubStore):
    """Stores each version in a folder; fails while ``unavailable`` is set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unavailable = False
        self.fetches = 0
        self.fetch_failed = asyncio.Event()

    async def versions(self) -> Sequence[ModelRef]:
        return [ModelRef(name=path.parent.name, version=path.name) for path in sorted(self.folder.glob("*/*"))]

    async def fetch(self, model: ModelRef, model_cache: Path) -> Path:
        self.fetches += 1
        if self.unavailable:
            self.fetch_failed.set()
            raise TransientError("the model store does not respond")
        source, target = (place / model.name / model.version for place in (self.folder, model_cache))
        if not source.is_dir():
            raise ModelLoadError(f"the model store has no {model.name} {model.version}")
        verified_model_file(read_card(source / "model.yaml"), source / "model.yaml")
        shutil.copytree(source, target, dirs_exist_ok=True)
        return target / "model.yaml"
