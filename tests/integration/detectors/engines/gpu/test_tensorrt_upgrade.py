"""TensorRT engines are named, built once per machine in a process of their own, shared, loaded and run.

No GPU is needed: the driver is a stand-in compiled here, TensorRT a stand-in whose engines run on ONNX Runtime's CPU.
All of Standgale's side is real: the ctypes calls, the builder process, locks, files and the model store.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import InputCard, read_card
from detectors.engines.artefact import ArtefactState, EngineArtefact, artefact_for, obtain_artefact
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine
from detectors.engines.gpu import cuda
from detectors.engines.gpu.tensorrt_job import BuildJob, engine_name
from detectors.engines.port import EngineRequest
from detectors.engines.registry import ENGINES, load_engine, usable_engines
from detectors.errors import InferenceError, ModelLoadError
from detectors.model.artefact_model import load_artefact_model
from detectors.model.loading import LoadRequest, load_model
from detectors.store.folder import FolderBlobs
from detectors.store.versions import VersionStore
from infra.errors import TransientError
from schemas.events import ModelRef
from tests.support_gpu import compiled_driver, pretend_gpu
from tests.support_graphs import GraphSpec, tiles_that_differ, write_model

REF = ModelRef(name="rectangles", version="1.0.0")
SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)
ADA = cuda.Gpu("Fake GPU", (8, 9), 128, 24 << 30)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture(autouse=True)
def gpu(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(driver, monkeypatch)
    monkeypatch.setenv("FAKE_TENSORRT_BUILDS", str(tmp_path / "builds"))


def request(folder: Path, spec: GraphSpec = SPEC, batch: int = 4) -> EngineRequest:
    card = read_card(write_model(folder, spec))
    constants = {"orig_target_sizes": np.array([64, 32], np.int64)} if spec.layout == "rtdetr" else {}
    return EngineRequest(folder / card.file, card.input, 1, "f32", constants=constants, batch=batch)


def upgrade(folder: Path, cache: str = "cache", wanted: EngineRequest | None = None) -> EngineArtefact:
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


@pytest.mark.parametrize("layout", ["yolov8", "rtdetr"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_built_engine_answers_as_onnx_runtime_does(tmp_path: Path, layout: str, batch: int | None) -> None:
    spec = GraphSpec(layout=layout, width=64, height=32, batch=batch, mean=0.4, std=0.3)  # type: ignore[arg-type]
    wanted = request(tmp_path / "model", spec)
    made = upgrade(tmp_path, wanted=wanted)
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


def test_the_name_tells_model_library_gpu_precision_and_batch(tmp_path: Path) -> None:
    wanted = request(tmp_path / "model")
    name = engine_name(wanted, ADA, "10.13.3")
    assert name.endswith("-trt10.13.3-cc89-sm128-f32-b4.engine")
    assert name == upgrade(tmp_path).name
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


async def test_what_one_machine_builds_the_next_one_fetches(tmp_path: Path) -> None:
    card = write_model(tmp_path / "model", SPEC)
    store = VersionStore(FolderBlobs(tmp_path / "store"), 10**9)
    await store.publish(card)
    states: list[ArtefactState] = []
    first = upgrade(tmp_path, "first")
    assert not first.is_cached
    assert await obtain_artefact(first, store, states.append) == first.path
    assert states == ["downloading", "converting", "uploading"]
    assert [path.suffix for path in first.path.parent.iterdir() if path.suffix not in (".engine", ".lock")] == []
    states.clear()
    assert await obtain_artefact(first, store, states.append) == first.path
    assert states == []
    second = upgrade(tmp_path, "second")
    assert await obtain_artefact(second, store, states.append) == second.path
    assert states == ["downloading"]
    assert second.path.read_bytes() == first.path.read_bytes()
    assert len(builds(tmp_path)) == 1
    second.load().close()
    await store.close()


class AwayStore(VersionStore):
    """A store whose artefacts cannot be reached."""

    async def fetch_artefact(self, model: ModelRef, name: str, into: Path) -> Path | None:
        raise TransientError("the store is away")

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        raise TransientError("the store is away")


async def test_a_store_that_is_away_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    states: list[ArtefactState] = []
    made = upgrade(tmp_path)
    store = AwayStore(FolderBlobs(tmp_path / "store"), 10**9)
    assert await obtain_artefact(made, store, states.append) == made.path
    assert states == ["downloading", "converting", "uploading"]
    assert "could not be put into the model store" in caplog.text
    assert await obtain_artefact(upgrade(tmp_path, "other"), None, states.append)
    assert states[3:] == ["converting"]


@pytest.mark.parametrize(("behaviour", "said"), [("crash", "status -6"), ("nothing", "out of memory")])
async def test_a_failing_builder_is_tried_again_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, said: str
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", behaviour)
    made = upgrade(tmp_path)
    for attempt in (1, 2):
        with pytest.raises(ModelLoadError, match=rf"could not be built \(attempt {attempt}\): .*{said}"):
            await obtain_artefact(made, None, lambda _: None)
    with pytest.raises(ModelLoadError, match=r"is not built again, it failed 2 time\(s\).*delete .*\.failed"):
        await obtain_artefact(made, None, lambda _: None)
    assert len(builds(tmp_path)) == 2
    assert not made.is_cached
    assert not list(made.path.parent.glob("*.part"))
    monkeypatch.setenv("FAKE_TENSORRT", "")
    made.path.with_suffix(".failed").unlink()
    assert await obtain_artefact(made, None, lambda _: None) == made.path


async def test_a_model_tensorrt_does_not_take_is_tried_once(tmp_path: Path) -> None:
    wanted = request(tmp_path / "model")
    import onnx

    model = onnx.load(wanted.path)
    model.graph.node.append(onnx.helper.make_node("Unheard", ["images"], ["nothing"], domain="elsewhere"))
    onnx.save(model, wanted.path)
    made = upgrade(tmp_path, wanted=wanted)
    with pytest.raises(ModelLoadError, match=r"does not take .*no importer for Unheard"):
        await obtain_artefact(made, None, lambda _: None)
    with pytest.raises(ModelLoadError, match="is not built again"):
        await obtain_artefact(made, None, lambda _: None)
    assert builds(tmp_path) == []


async def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hang")
    with pytest.raises(ModelLoadError, match="took longer than 3 s"):
        await obtain_artefact(limited(tmp_path, seconds=3), None, lambda _: None)
    (process,) = builds(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_a_cancelled_build_ends_at_once_and_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hang")
    made = upgrade(tmp_path)
    task = asyncio.create_task(obtain_artefact(made, None, lambda _: None))
    async with asyncio.timeout(30):
        while not builds(tmp_path):  # noqa: ASYNC110 - it is another process that writes
            await asyncio.sleep(0.05)
    task.cancel()
    start = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 8
    with pytest.raises(ProcessLookupError):
        os.kill(builds(tmp_path)[0], 0)
    assert not made.path.with_suffix(".failed").exists()
    monkeypatch.setenv("FAKE_TENSORRT", "")
    assert await obtain_artefact(made, None, lambda _: None) == made.path


async def test_of_two_workers_on_one_machine_one_builds_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_SECONDS", "1")
    one, other = upgrade(tmp_path), upgrade(tmp_path)
    store = VersionStore(FolderBlobs(tmp_path / "store"), 10**9)
    await store.publish(tmp_path / "model" / "model.yaml")
    told: list[list[ArtefactState]] = [[], []]
    await asyncio.gather(obtain_artefact(one, store, told[0].append), obtain_artefact(other, store, told[1].append))
    assert len(builds(tmp_path)) == 1
    assert sorted(told, key=len) == [["downloading", "converting"], ["downloading", "converting", "uploading"]]


def test_a_builder_ends_when_whoever_wanted_the_engine_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hang")
    wanted = request(tmp_path / "model")
    job = BuildJob(
        model=wanted.path,
        output=tmp_path / "made.engine",
        input=wanted.input,
        constants={},
        batch=4,
        precision="f32",
        workspace_bytes=2**20,
    )
    (tmp_path / "job.json").write_text(job.model_dump_json() + "\n")
    script = (
        "import subprocess, sys; command = [sys.executable, '-m', 'detectors.engines.gpu.tensorrt_build']; "
        "builder = subprocess.Popen(command, stdin=subprocess.PIPE); "
        "builder.stdin.write(open(sys.argv[1], 'rb').read()); builder.stdin.flush(); builder.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "job.json")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not builds(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    (builder,) = builds(tmp_path)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(builder, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the builder outlived its parent")


def test_an_engine_file_that_cannot_be_loaded_is_dropped(tmp_path: Path) -> None:
    made = upgrade(tmp_path)
    made.path.parent.mkdir(parents=True)
    made.path.write_bytes(b"made for another machine")
    assert made.is_cached
    with pytest.raises(ModelLoadError, match=r"is not an engine that TensorRT 10.13.3 takes on Fake GPU"):
        made.load()
    assert not made.is_cached


def test_whatever_happens_the_gpu_gets_everything_back(
    tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ctypes.CDLL(str(driver)).fake_held
    before = held()
    made = upgrade(tmp_path)
    made.build(threading.Event())
    engine = made.load()
    assert held() > before
    engine.close()
    engine.close()
    assert held() == before
    monkeypatch.setenv("FAKE_CUDA_BLOCKS", "3")
    with pytest.raises(ModelLoadError, match=r"cannot be loaded on Fake GPU.*out of memory"):
        made.load()
    assert held() == before
    assert made.is_cached, "it is not the file's fault"
    monkeypatch.delenv("FAKE_CUDA_BLOCKS")
    made.load().close()
    other = EngineRequest(tmp_path / "model" / "model.onnx", InputCard(width=32, height=32), 1, "f32")
    from detectors.engines.gpu.tensorrt import TensorRtEngine

    with pytest.raises(ModelLoadError, match=r"not one uint8 picture \(N, 32, 32, 3\)"):
        TensorRtEngine(other, made.path)
    assert held() == before


def test_kernels_measured_once_are_known_to_the_next_build(tmp_path: Path) -> None:
    upgrade(tmp_path).build(threading.Event())
    (kept,) = (tmp_path / "cache").glob("timing-trt10.13.3-cc89-sm128.cache")
    assert kept.read_bytes() == b"t"
    upgrade(tmp_path, wanted=request(tmp_path / "model", batch=2)).build(threading.Event())
    assert kept.read_bytes() == b"tt"
    kept.write_bytes(b"other")
    upgrade(tmp_path, wanted=request(tmp_path / "model", batch=1)).build(threading.Event())
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
    made = upgrade(tmp_path, wanted=wanted)
    assert f"-trt{version}-" in made.name
    made.build(threading.Event())
    plan = pickle.loads(made.path.read_bytes())
    assert plan["flags"] == flags
    kinds = {one.data_type for one in onnx.load_from_string(plan["data"]).graph.initializer if len(one.dims) == 4}
    in_graph = version.startswith("11") and precision == "f16"
    assert kinds == {onnx.TensorProto.FLOAT16 if in_graph else onnx.TensorProto.FLOAT}


def test_damaged_notes_of_failures_count_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = upgrade(tmp_path)
    made.path.parent.mkdir(parents=True)
    made.path.with_suffix(".failed").write_text(json.dumps({"attempts": "many"}))
    with caplog.at_level(logging.WARNING):
        assert made.build(threading.Event())
    assert "is damaged and counts for nothing" in caplog.text
    assert not made.path.with_suffix(".failed").exists()


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


async def test_an_engine_that_answers_wrongly_is_refused_and_the_other_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_model(tmp_path / "model", SPEC)
    monkeypatch.setattr("detectors.model.engine_check.why_implausible", lambda *_: "the same answer for both tiles")
    with pytest.raises(ModelLoadError, match="failed its first run: the same answer"):
        await load_artefact_model(LoadRequest(card=card), None, tmp_path / "cache", lambda _: None)


async def test_half_precision_that_answers_otherwise_is_refused_unless_it_is_asked_for(
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
        assert ENGINES[name].preferred(wanted, "asked for").precision == "f32"
