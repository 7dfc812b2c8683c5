"""The choice of an engine, also when one is missing or refuses the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from detectors.card.card import read_card
from detectors.engines import installed, registry
from detectors.engines.port import Engine, EngineRequest
from detectors.engines.registry import ENGINES, load_engine, usable_engines
from detectors.errors import ModelLoadError
from standgale.testing.graphs import GraphSpec, write_model

EngineName = Literal["openvino", "onnxruntime"]
CPU_ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)


def load(folder: Path, name: EngineName, spec: GraphSpec, threads: int = 2) -> Engine:
    card = read_card(write_model(folder, spec))
    return load_engine(name, EngineRequest(folder / card.file, card.input, threads, card.precision))


def refuse(request: EngineRequest) -> Engine:
    raise ModelLoadError(f"cannot load {request.path}")


def test_an_engine_that_is_not_installed_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(
        ModelLoadError, match=r"openvino cannot be used: openvino is not installed; install the extra cpu of standgale"
    ):
        load(tmp_path, "openvino", SPEC)
    card = read_card(tmp_path / "model.yaml")
    request = EngineRequest(tmp_path / card.file, card.input, 1, "f32")
    monkeypatch.setattr(registry, "ENGINES", {name: registry.ENGINES[name] for name in CPU_ENGINES})
    assert load_engine("auto", request).name == "onnxruntime"
    monkeypatch.setattr(installed, "find_spec", lambda name: object())
    refusing = replace(registry.ENGINES["openvino"], load=refuse)
    monkeypatch.setattr(registry, "ENGINES", {"openvino": refusing, "onnxruntime": registry.ENGINES["onnxruntime"]})
    engine = load_engine("auto", request)
    assert (engine.name, "another refused" in engine.reason) == ("onnxruntime", True)
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(
        ModelLoadError,
        match=r"no engine can be used .*onnxruntime: onnxruntime is not installed.*the extra cpu of standgale",
    ):
        load_engine("auto", request)


@pytest.mark.parametrize("name", ["onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "torch"])
def test_gpu_engine_without_driver_names_what_is_missing_and_auto_skips_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.engines.gpu.cuda.LIBRARY", "libnothing.so.1")
    entry = ENGINES[name]
    assert entry.why_not() or entry.passed_over()
    assert name not in [one.name for one in usable_engines("auto")]
    if entry.why_not():
        with pytest.raises(ModelLoadError, match=f"engine {name} cannot be used: .*(install|driver)"):
            usable_engines(name)  # type: ignore[arg-type]
