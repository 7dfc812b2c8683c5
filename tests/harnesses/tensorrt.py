"""Makes artefacts of TensorRT engines with a fake library and a fake driver."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectors.card.card import read_card
from detectors.engines.artefact import EngineArtefact, artefact_for
from detectors.engines.gpu import cuda
from detectors.engines.port import EngineRequest
from schemas.event_base import ModelRef
from standgale.testing.graphs import GraphSpec, write_model

REF = ModelRef(name="rectangles", version="1.0.0")


SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)


ADA = cuda.Gpu("Fake GPU", (8, 9), 128, 24 << 30)


def request(folder: Path, spec: GraphSpec = SPEC, batch: int = 4) -> EngineRequest:
    card = read_card(write_model(folder, spec))
    constants = {"orig_target_sizes": np.array([64, 32], np.int64)} if spec.layout == "rtdetr" else {}
    return EngineRequest(folder / card.file, card.input, 1, "f32", constants=constants, batch=batch)


def make_artefact(folder: Path, cache: str = "cache", wanted: EngineRequest | None = None) -> EngineArtefact:
    made = artefact_for(wanted or request(folder / "model"), folder / cache, REF)
    assert made is not None
    return made


def limited(folder: Path, seconds: float, attempts: int = 2, cache: str = "cache") -> EngineArtefact:
    from detectors.engines.gpu.tensorrt_artefact import BuildLimits, TensorRtArtefact

    limits = BuildLimits(seconds=seconds, attempts=attempts)
    return TensorRtArtefact(request(folder / "model"), folder / cache, REF, limits)


def builds(folder: Path) -> list[int]:
    path = folder / "builds"
    return [int(line) for line in path.read_text().split()] if path.exists() else []
