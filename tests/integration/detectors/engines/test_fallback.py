"""Checks that a batch on which one engine fails runs on the next, and the error where that is not possible."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from detectors.engines.fallback import FAILURES_IN_A_ROW, FallbackEngine
from detectors.errors import InferenceError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.model.loading import LoadRequest, load_model
from tests.graphs.failing import write_failing_model


def failures(engine: str) -> float:
    return REGISTRY.get_sample_value("standgale_engine_failures_total", {"engine": engine}) or 0.0


def tiles(level: int, count: int = 2) -> ImageArray:
    return np.full((count, 128, 128, 3), level, np.uint8)


def test_infer_batch_that_fails_in_onnxruntime_runs_in_openvino(tmp_path: Path) -> None:
    card = write_failing_model(tmp_path, "onnxruntime")
    model, exact = load_model(LoadRequest(card, "onnxruntime", 1)), load_model(LoadRequest(card, "openvino", 1))
    before = failures("onnxruntime")
    (output,) = model.infer(tiles(255))
    (expected,) = exact.infer(tiles(255))
    assert np.abs(output - expected).max() < 1e-4
    assert failures("onnxruntime") == before + 1
    assert model.engine.name == "onnxruntime"
    model.infer(tiles(0))
    model.close()
    exact.close()


def test_after_some_failures_in_a_row_the_next_engine_serves(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_failing_model(tmp_path, "onnxruntime"), "onnxruntime", 1))
    batch, callers = model.engine.batch_size, model.engine.parallel
    for _ in range(2):
        for _ in range(FAILURES_IN_A_ROW - 1):
            model.infer(tiles(255))
        assert model.engine.name == "onnxruntime"
        model.infer(tiles(0))  # One that works in between starts the count again.
    before = failures("onnxruntime")
    for _ in range(FAILURES_IN_A_ROW + 3):
        model.infer(tiles(255))
    assert failures("onnxruntime") == before + FAILURES_IN_A_ROW
    assert model.engine.name == "openvino"
    assert f"engine onnxruntime failed {FAILURES_IN_A_ROW} times in a row" in model.engine.reason
    assert "OpenVINO" in model.engine.reason
    assert (model.engine.batch_size, model.engine.parallel) == (batch, callers)
    model.close()


@dataclass
class Failing:
    """An engine that fails on the tiles it is told to."""

    name: str
    fails: bool = False
    reason: str = "for a test"
    batch_size: int = 1
    parallel: int = 1

    def run(self, tiles: ImageArray) -> Outputs:
        if self.fails:
            raise InferenceError(f"{self.name} fails")
        return (np.zeros((len(tiles), 1), np.float32),)

    def close(self) -> None:
        """Nothing to give back."""


def test_the_engine_that_took_over_is_given_as_many_chances() -> None:
    first, second = Failing("first", fails=True), Failing("second")
    engine = FallbackEngine(first, lambda: second)
    for _ in range(FAILURES_IN_A_ROW):
        engine.run(tiles(0))
    assert engine.name == "second"
    first.fails, second.fails = False, True
    for _ in range(FAILURES_IN_A_ROW - 1):
        engine.run(tiles(0))
    assert engine.name == "second"
    engine.run(tiles(0))
    assert engine.name == "first"


def test_many_threads_fail_over_at_once(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_failing_model(tmp_path, "onnxruntime"), "onnxruntime", 2))
    levels = [0, 255] * 20
    with ThreadPoolExecutor(8) as pool:
        shapes = set(pool.map(lambda level: model.infer(tiles(level))[0].shape, levels))
    assert len(shapes) == 1
    model.close()


def test_tiles_both_engines_fail_on_are_the_fault_of_the_tiles(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_failing_model(tmp_path, "both"), "onnxruntime", 1))
    before = failures("onnxruntime"), failures("openvino")
    for _ in range(FAILURES_IN_A_ROW + 1):
        with pytest.raises(
            InferenceError, match=r"ONNX Runtime failed.*engine openvino failed after it: OpenVINO failed"
        ):
            model.infer(tiles(255))
    assert (failures("onnxruntime"), failures("openvino")) == (
        before[0] + FAILURES_IN_A_ROW + 1,
        before[1] + FAILURES_IN_A_ROW + 1,
    )
    assert model.engine.name == "onnxruntime"
    model.infer(tiles(0))
    model.close()


def test_infer_without_fallback_engine_raises_inference_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = write_failing_model(tmp_path, "onnxruntime")
    model = load_model(LoadRequest(card, "onnxruntime", 1, fallback=False))
    with pytest.raises(InferenceError, match=r"no other engine can take over: detector\.fallback is off"):
        model.infer(tiles(255))
    model.infer(tiles(0))
    model.close()
    model = load_model(LoadRequest(card, "onnxruntime", 1))
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 1)
    with pytest.raises(InferenceError, match=r"no other engine can take over.*too large"):
        model.infer(tiles(255))
    model.close()
