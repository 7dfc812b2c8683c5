"""Precision, kernel timings and checks of a finished engine."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import read_card
from detectors.engines.artefact import ArtefactState
from detectors.engines.port import EngineRequest
from detectors.engines.registry import ENGINES
from detectors.errors import ModelLoadError
from detectors.model.artefact_model import load_artefact_model
from detectors.model.loading import LoadRequest, load_model
from standgale.testing.graphs import tiles_that_differ, write_model
from tests.harnesses.tensorrt import SPEC, make_artefact, request


def test_kernels_measured_once_are_known_to_the_next_build(tmp_path: Path) -> None:
    make_artefact(tmp_path).build(threading.Event())
    (kept,) = (tmp_path / "cache").glob("timing-trt10.13.3-cc89-sm128.cache")
    assert kept.read_bytes() == b"t"
    make_artefact(tmp_path, wanted=request(tmp_path / "model", batch=2)).build(threading.Event())
    assert kept.read_bytes() == b"tt"
    kept.write_bytes(b"other")
    make_artefact(tmp_path, wanted=request(tmp_path / "model", batch=1)).build(threading.Event())
    assert kept.read_bytes() == b"t"


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [("10.13.3", "f32", set()), ("10.13.3", "f16", {"TF32", "FP16"}), ("11.0.0", "f16", {"TF32"})],
)
def test_precision_is_a_flag_before_version_11_and_part_of_the_graph_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, precision: str, flags: set[str]
) -> None:
    import pickle

    import onnx

    monkeypatch.setenv("FAKE_TENSORRT_VERSION", version)
    from bench.graphs import write_heavy_model

    path = write_heavy_model(tmp_path / "model", np.zeros((640, 640, 3), np.uint8))
    card = read_card(path)
    wanted = EngineRequest(path.parent / card.file, card.input, 1, precision)  # type: ignore[arg-type]
    made = make_artefact(tmp_path, wanted=wanted)
    assert f"-trt{version}-" in made.name
    made.build(threading.Event())
    plan = pickle.loads(made.path.read_bytes())
    assert plan["flags"] == flags
    kinds = {one.data_type for one in onnx.load_from_string(plan["data"]).graph.initializer if len(one.dims) == 4}
    in_graph = version.startswith("11") and precision == "f16"
    assert kinds == {onnx.TensorProto.FLOAT16 if in_graph else onnx.TensorProto.FLOAT}


async def test_a_served_model_moves_to_its_tensorrt_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = write_model(tmp_path / "model", SPEC)
    wanted = LoadRequest(card=card, engines_folder=tmp_path / "memory")
    states: list[ArtefactState] = []
    model = await load_artefact_model(wanted, None, tmp_path / "cache", states.append)
    assert model is not None
    assert (model.engine.name, states) == ("tensorrt", ["converting"])
    slower = load_model(wanted)
    assert slower.engine.name in ("openvino", "onnxruntime")
    (one,), (other,) = slower.infer(tiles_that_differ(3)), model.infer(tiles_that_differ(3))
    assert np.abs(one - other).max() < 1e-4
    model.close()
    slower.close()
    assert await load_artefact_model(replace(wanted, engine="openvino"), None, tmp_path, states.append) is None
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    assert await load_artefact_model(wanted, None, tmp_path, states.append) is None
    assert states == ["converting"]


async def test_load_artefact_model_with_implausible_outputs_raises_model_load_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_model(tmp_path / "model", SPEC)
    monkeypatch.setattr("detectors.model.engine_check.why_implausible", lambda *_: "the same answer for both tiles")
    with pytest.raises(ModelLoadError, match="failed its first run: the same answer"):
        await load_artefact_model(LoadRequest(card=card), None, tmp_path / "cache", lambda _: None)


async def test_half_precision_with_different_outputs_is_refused_unless_requested(
    tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ctypes.CDLL(str(driver)).fake_held
    before = held()
    wanted = LoadRequest(card=write_model(tmp_path / "model", SPEC))
    monkeypatch.setattr("detectors.model.engine_check.why_different", lambda *_: "scores differ from f32")
    with pytest.raises(ModelLoadError, match=r"tensorrt is not used: scores differ from f32; name a precision"):
        await load_artefact_model(wanted, None, tmp_path / "cache", lambda _: None)
    assert held() == before
    model = await load_artefact_model(replace(wanted, precision="f16"), None, tmp_path / "cache", lambda _: None)
    assert model is not None
    assert "-f16-" in model.engine.reason
    model.close()


def test_without_measuring_every_engine_computes_in_f32(tmp_path: Path) -> None:
    wanted = replace(request(tmp_path / "model"), precision="auto", exported=tmp_path / "model" / "model.pt2")
    for name in ("onnxruntime_cuda", "torch", "tensorrt", "onnxruntime_tensorrt", "openvino", "onnxruntime"):
        assert ENGINES[name].preferred(wanted, "requested").precision == "f32"
