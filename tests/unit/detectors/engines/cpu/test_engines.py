"""The input of ONNX Runtime, and the choice when an engine is missing; tests/contract/engines has the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from detectors.card.card import read_card
from detectors.engines import installed, registry
from detectors.engines.cpu.onnxruntime import to_input
from detectors.engines.port import Engine, EngineRequest
from detectors.engines.registry import load_engine
from detectors.errors import ModelLoadError
from standgale.testing.graphs import GraphSpec, write_model

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)


def load(folder: Path, name: EngineName, spec: GraphSpec, threads: int = 2) -> Engine:
    card = read_card(write_model(folder, spec))
    return load_engine(name, EngineRequest(folder / card.file, card.input, threads, card.precision))


def test_input_is_scaled_shifted_and_swapped(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, SPEC)).input.model_copy(
        update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    )
    made = np.random.default_rng(3).integers(0, 256, (2, 32, 64, 3), np.uint8)
    rgb = made[..., ::-1].astype(np.float64) / 255
    expected = ((rgb - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2)
    assert np.abs(to_input(made, card) - expected).max() < 1e-5


def refuse(request: EngineRequest) -> Engine:
    raise ModelLoadError(f"cannot load {request.path}")


def test_an_engine_that_is_not_installed_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(
        ModelLoadError, match=r"openvino cannot be used: openvino is not installed; install standgale\[cpu\]"
    ):
        load(tmp_path, "openvino", SPEC)
    card = read_card(tmp_path / "model.yaml")
    request = EngineRequest(tmp_path / card.file, card.input, 1, "f32")
    monkeypatch.setattr(registry, "ENGINES", {name: registry.ENGINES[name] for name in ENGINES})
    assert load_engine("auto", request).name == "onnxruntime"
    monkeypatch.setattr(installed, "find_spec", lambda name: object())
    refusing = replace(registry.ENGINES["openvino"], load=refuse)
    monkeypatch.setattr(registry, "ENGINES", {"openvino": refusing, "onnxruntime": registry.ENGINES["onnxruntime"]})
    engine = load_engine("auto", request)
    assert (engine.name, "another refused" in engine.reason) == ("onnxruntime", True)
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(
        ModelLoadError, match=r"no engine can be used .*onnxruntime: onnxruntime is not installed.*standgale\[cpu\]"
    ):
        load_engine("auto", request)
