"""Checks the engine for ONNX Runtime's GPU providers, with buffers in the CPU's memory instead of the GPU's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import read_card
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine
from detectors.engines.gpu.onnxruntime_gpu import (
    OnnxRuntimeGpuEngine,
    Provider,
    cuda_provider,
    image_model,
    tensorrt_provider,
)
from detectors.engines.port import EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from standgale.testing.graphs import GraphSpec, tiles_that_differ, write_model

ON_CPU = Provider("CPUExecutionProvider", "cpu")


def request(folder: Path, spec: GraphSpec, batch: int = 0) -> EngineRequest:
    card = read_card(write_model(folder, spec))
    constants = {"orig_target_sizes": np.array([64, 32], np.int64)} if spec.layout == "rtdetr" else {}
    return EngineRequest(folder / card.file, card.input, 1, "f32", constants=constants, batch=batch)


def bound(wanted: EngineRequest, float16: bool = False) -> OnnxRuntimeGpuEngine:
    return OnnxRuntimeGpuEngine("onnxruntime_cuda", wanted, image_model(wanted, float16), ON_CPU)


@pytest.mark.parametrize("layout", ["yolov8", "rtdetr"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_bound_memory_outputs_equal_those_of_plain_runs(tmp_path: Path, layout: str, batch: int | None) -> None:
    spec = GraphSpec(layout=layout, width=64, height=32, batch=batch, mean=0.4, std=0.3)  # type: ignore[arg-type]
    wanted = request(tmp_path, spec, batch=4)
    engine = bound(wanted)
    assert engine.batch_size == (batch or 4)
    for count in (1, 2, 3, 4, 11):
        expected = OnnxRuntimeEngine(wanted).run(tiles_that_differ(count))
        found = engine.run(tiles_that_differ(count))
        assert [one.dtype for one in found] == [np.float32] * len(expected)
        for one, other in zip(expected, found, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() < 1e-5
    engine.close()


def test_many_threads_do_not_mix_their_tiles(tmp_path: Path) -> None:
    engine = bound(request(tmp_path, GraphSpec(width=64, height=32), batch=4))
    alone = [engine.run(tiles_that_differ(12)[at : at + 3])[0] for at in range(9)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            together = pool.map(lambda at: engine.run(tiles_that_differ(12)[at : at + 3])[0], range(9))
            assert all((one == other).all() for one, other in zip(alone, together, strict=True))
    engine.close()


def test_a_failing_run_is_an_inference_error_and_the_engine_lives_on(tmp_path: Path) -> None:
    engine = bound(request(tmp_path, GraphSpec(width=64, height=32), batch=4))
    for _ in range(2 * engine.parallel):
        with pytest.raises(InferenceError, match=r"tiles are \(16, 16, 3\), the model takes \(32, 64, 3\)"):
            engine.run(np.zeros((2, 16, 16, 3), np.uint8))
    assert engine.run(tiles_that_differ(3))[0].shape[0] == 3


def test_half_precision_finds_the_same_rectangles(tmp_path: Path) -> None:
    wanted = request(tmp_path, GraphSpec(width=64, height=32), batch=2)
    (exact,), (half,) = bound(wanted).run(tiles_that_differ(3)), bound(wanted, float16=True).run(tiles_that_differ(3))
    assert np.abs(exact - half).max() < 0.1


def test_a_provider_that_is_not_there_is_named_with_what_to_install(tmp_path: Path) -> None:
    wanted = request(tmp_path, GraphSpec(width=64, height=32))
    with pytest.raises(ModelLoadError, match=r"has no CUDAExecutionProvider; .*install the extra cuda of standgale: "):
        OnnxRuntimeGpuEngine("onnxruntime_cuda", wanted, image_model(wanted, False), cuda_provider("f32"))


def test_provider_options_for_cuda_and_tensorrt(tmp_path: Path) -> None:
    exact, fast = cuda_provider("f32").options, cuda_provider("f16", device=1, graphs=True).options
    assert (exact["use_tf32"], fast["use_tf32"], fast["device_id"], fast["enable_cuda_graph"]) == ("0", "1", "1", "1")
    shapes = {"pixels": (32, 64, 3), "orig_target_sizes": (2,)}
    options = tensorrt_provider("f16", shapes, 8, tmp_path).options
    assert options["trt_profile_min_shapes"] == "pixels:1x32x64x3,orig_target_sizes:1x2"
    assert options["trt_profile_max_shapes"] == options["trt_profile_opt_shapes"]
    assert options["trt_profile_max_shapes"] == "pixels:8x32x64x3,orig_target_sizes:8x2"
    assert (options["trt_fp16_enable"], options["trt_engine_cache_path"]) == ("True", str(tmp_path))
    assert tensorrt_provider("f32", {}, 1, tmp_path).options["trt_fp16_enable"] == "False"
    assert "trt_profile_min_shapes" not in tensorrt_provider("f32", {}, 1, tmp_path).options
