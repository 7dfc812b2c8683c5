"""Checks that an artefact's name shows what it was built for, and that it is refused elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.engines.artefact import artefact_for
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine
from detectors.engines.gpu.tensorrt_job import engine_name
from detectors.engines.registry import load_engine, usable_engines
from detectors.errors import InferenceError, ModelLoadError
from standgale.testing.graphs import GraphSpec, tiles_that_differ
from tests.harnesses.tensorrt import ADA, REF, SPEC, builds, make_artefact, request


@pytest.mark.parametrize("layout", ["yolov8", "rtdetr"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_tensorrt_engine_outputs_match_onnxruntime(tmp_path: Path, layout: str, batch: int | None) -> None:
    spec = GraphSpec(layout=layout, width=64, height=32, batch=batch, mean=0.4, std=0.3)  # type: ignore[arg-type]
    wanted = request(tmp_path / "model", spec)
    made = make_artefact(tmp_path, wanted=wanted)
    assert made.build(threading.Event())
    engine = made.load()
    assert (engine.name, engine.batch_size) == ("tensorrt", batch or 4)
    assert "Fake GPU (compute capability 8.9)" in engine.reason
    for count in (1, 3, 4, 9):
        shown = tiles_that_differ(count)
        for one, other in zip(OnnxRuntimeEngine(wanted).run(shown), engine.run(shown), strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() < 1e-5
    alone = [engine.run(tiles_that_differ(12)[at : at + 3])[0] for at in range(9)]
    with ThreadPoolExecutor(6) as pool:
        together = pool.map(lambda at: engine.run(tiles_that_differ(12)[at : at + 3])[0], range(9))
        assert all((one == other).all() for one, other in zip(alone, together, strict=True))
    with pytest.raises(InferenceError):
        engine.run(np.zeros((2, 16, 16, 3), np.uint8))
    assert engine.run(tiles_that_differ(2))[0].shape[0] == 2
    engine.close()


def test_engine_name_depends_on_model_library_gpu_precision_and_batch(tmp_path: Path) -> None:
    wanted = request(tmp_path / "model")
    name = engine_name(wanted, ADA, "10.13.3")
    assert name.endswith("-trt10.13.3-cc89-sm128-f32-b4.engine")
    assert name == make_artefact(tmp_path).name
    other_card = wanted.input.model_copy(update={"scale": 1.0})
    different = {
        name,
        engine_name(wanted, replace(ADA, capability=(8, 6)), "10.13.3"),
        engine_name(wanted, replace(ADA, multiprocessors=84), "10.13.3"),
        engine_name(wanted, ADA, "11.0.0"),
        engine_name(replace(wanted, batch=8), ADA, "10.13.3"),
        engine_name(replace(wanted, precision="f16"), ADA, "10.13.3"),
        engine_name(replace(wanted, input=other_card), ADA, "10.13.3"),
        engine_name(request(tmp_path / "other", replace(SPEC, mean=0.3)), ADA, "10.13.3"),
    }
    assert len(different) == 8
    auto = replace(wanted, precision="auto")
    assert "-f16-" in engine_name(auto, ADA, "10.13.3")
    assert "-f32-" in engine_name(auto, replace(ADA, capability=(6, 1)), "10.13.3")


def test_a_gpu_that_is_too_old_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_CAPABILITY", "60")
    assert artefact_for(request(tmp_path / "model"), tmp_path, REF) is None
    with pytest.raises(ModelLoadError, match=r"Fake GPU \(compute capability 6.0\) is too old, 6.1 is needed"):
        usable_engines("tensorrt")
    monkeypatch.setenv("FAKE_CUDA_CAPABILITY", "61")
    assert artefact_for(request(tmp_path / "model"), tmp_path, REF) is not None
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    with pytest.raises(ModelLoadError, match="GPU 0 does not exist, the driver finds 0"):
        usable_engines("tensorrt")


def test_auto_never_waits_for_a_build_but_by_name_it_is_built(tmp_path: Path) -> None:
    assert "tensorrt" not in [entry.name for entry in usable_engines("auto")]
    wanted = replace(request(tmp_path / "model"), engines_folder=tmp_path / "engines")
    for _ in range(2):
        engine = load_engine("tensorrt", wanted)
        assert engine.run(tiles_that_differ(2))[0].shape[0] == 2
        engine.close()
    assert len(builds(tmp_path)) == 1
