"""A model that does not fit into memory is refused before it is loaded, or runs with fewer sessions."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import yaml

from detectors.card.card import InputCard
from detectors.engines.memory_fit import available_bytes, needed_bytes, reduce_streams_to_fit, weights_bytes
from detectors.engines.port import Engine, EngineRequest
from detectors.engines.registry import ENGINES
from detectors.errors import ModelLoadError
from detectors.model.loading import LoadRequest, load_model
from standgale.testing.graphs import write_model

GIB = 1 << 30


def request(path: Path, threads: int = 8) -> EngineRequest:
    return EngineRequest(path, InputCard(width=640, height=640), threads, "f32")


def sparse_model(folder: Path, size: int) -> Path:
    """The card of a model with weights in a file of ``size`` bytes that takes no room on the disk."""
    card = write_model(folder)
    path = folder / "model.onnx"
    model = onnx.load(path)
    weights = model.graph.initializer.add(name="weights", dims=[size // 4], data_type=onnx.TensorProto.FLOAT)
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="model.data")
    with (folder / "model.data").open("wb") as file:
        file.truncate(size)
    path.write_bytes(model.SerializeToString())
    fields = yaml.safe_load(card.read_text(encoding="utf-8"))
    fields["sha256"] = sha256(path.read_bytes()).hexdigest()
    card.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return card


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
def test_a_model_larger_than_memory_is_refused_before_it_is_loaded(tmp_path: Path, engine: str) -> None:
    card = sparse_model(tmp_path, 4096 * GIB)
    taken = psutil.Process().memory_info().rss
    with pytest.raises(
        ModelLoadError, match=r"too large: engine .* needs about [\d,]{9,} MiB.* MiB are free.*smaller model"
    ):
        load_model(LoadRequest(card, engine))  # type: ignore[arg-type]  # parametrised text
    assert psutil.Process().memory_info().rss - taken < GIB // 4


def test_weights_beside_the_file_count_and_must_be_there(tmp_path: Path) -> None:
    path = sparse_model(tmp_path, GIB).with_name("model.onnx")
    assert weights_bytes(path) == GIB + path.stat().st_size
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.data, which cannot be read .*put it in that folder"):
        weights_bytes(path)


def test_onnxruntime_runs_fewer_sessions_when_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = sparse_model(tmp_path, GIB).with_name("model.onnx")
    copies = ENGINES["onnxruntime"].copies
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 11 * GIB)
    smaller = reduce_streams_to_fit("onnxruntime", request(path), copies)
    assert smaller.streams == 3
    assert "runs 3 instead of 8 tiles in parallel" in caplog.text
    assert reduce_streams_to_fit("onnxruntime", request(path, 2), copies).streams == 0
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 2 * GIB)
    with pytest.raises(ModelLoadError, match="onnxruntime needs about 3,"):
        reduce_streams_to_fit("onnxruntime", request(path), copies)


def test_a_gpu_engine_needs_the_hosts_memory_for_weights_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = sparse_model(tmp_path, GIB).with_name("model.onnx")
    loaded: list[EngineRequest] = []

    def load(request: EngineRequest) -> Engine:
        loaded.append(request)
        raise ModelLoadError("far enough, no GPU is needed")

    entry = replace(ENGINES["onnxruntime_cuda"], load=load)
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 4 * GIB)
    wanted = replace(request(path, 64), batch=32)
    with pytest.raises(ModelLoadError, match="far enough"):
        entry.open(wanted)
    assert loaded == [wanted]
    assert "memory is short" not in caplog.text
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 2 * GIB)
    with pytest.raises(ModelLoadError, match="onnxruntime_cuda needs about 3,"):
        entry.open(wanted)


def test_an_engine_loaded_with_little_memory_has_fewer_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.engines.memory_fit.available_bytes", lambda: 5_000_000)
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime", threads=4))
    assert "2 session(s) of 2 thread(s)" in model.engine.reason
    assert len(model.infer(np.zeros((5, 128, 128, 3), np.uint8))[0]) == 5
    model.close()


def test_more_tiles_at_a_time_need_more() -> None:
    wanted = request(Path("model.onnx"), 2)
    few = needed_bytes(wanted, ENGINES["openvino"].copies, 1_000_000)
    assert few > 2_300_000
    assert needed_bytes(request(Path("model.onnx"), 4), ENGINES["openvino"].copies, 1_000_000) > few


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "groups"
    own.write_text("0::/pod/worker\n")
    write(root / "pod", memory__max=5_000, memory__current=2_000, memory__stat="anon 1\ninactive_file 500")
    write(root / "pod" / "worker", memory__max="max", memory__current=1_500)
    assert available_bytes(root, own) == 3_500
    write(root / "pod" / "worker", memory__max=1_400, memory__current=1_500)
    assert available_bytes(root, own) == 0


def test_a_container_that_sees_its_own_group_as_the_root_and_the_older_hierarchy(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "groups"
    own.write_text("7:cpu:/x\n4:memory:/docker/abc\n0::/\n")
    write(root / "memory", memory__limit_in_bytes=9_000, memory__usage_in_bytes=2_000)
    write(root / "memory", memory__stat="cache 4\ntotal_inactive_file 1000")
    assert available_bytes(root, own) == 8_000
    assert available_bytes(tmp_path / "none", tmp_path / "none") == pytest.approx(
        psutil.virtual_memory().available, rel=0.2
    )
