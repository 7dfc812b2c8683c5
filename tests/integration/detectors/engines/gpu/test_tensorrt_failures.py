"""Builds that fail, hang or are cancelled end, and are tried a bounded number of times."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from detectors.card.card import InputCard
from detectors.engines.artefact import obtain_artefact
from detectors.engines.port import EngineRequest
from detectors.errors import ModelLoadError
from tests.harnesses.tensorrt import builds, limited, make_artefact, request


@pytest.mark.parametrize(("behaviour", "message"), [("crash", "status -6"), ("nothing", "out of memory")])
async def test_a_failing_builder_is_tried_again_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, message: str
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", behaviour)
    made = make_artefact(tmp_path)
    for attempt in (1, 2):
        with pytest.raises(ModelLoadError, match=rf"could not be built \(attempt {attempt}\): .*{message}"):
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
    made = make_artefact(tmp_path, wanted=wanted)
    with pytest.raises(ModelLoadError, match=r"cannot read .*no importer for Unheard"):
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
    made = make_artefact(tmp_path)
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


def test_an_engine_file_that_cannot_be_loaded_is_dropped(tmp_path: Path) -> None:
    made = make_artefact(tmp_path)
    made.path.parent.mkdir(parents=True)
    made.path.write_bytes(b"made for another machine")
    assert made.is_cached
    with pytest.raises(ModelLoadError, match=r"TensorRT 10.13.3 cannot read .* as an engine on Fake GPU"):
        made.load()
    assert not made.is_cached


def test_tensorrt_engine_frees_all_gpu_memory_after_failures(
    tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ctypes.CDLL(str(driver)).fake_held
    before = held()
    made = make_artefact(tmp_path)
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

    with pytest.raises(ModelLoadError, match=r"not one uint8 image \(N, 32, 32, 3\)"):
        TensorRtEngine(other, made.path)
    assert held() == before


def test_damaged_notes_of_failures_count_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_artefact(tmp_path)
    made.path.parent.mkdir(parents=True)
    made.path.with_suffix(".failed").write_text(json.dumps({"attempts": "many"}))
    with caplog.at_level(logging.WARNING):
        assert made.build(threading.Event())
    assert "is damaged and ignored" in caplog.text
    assert not made.path.with_suffix(".failed").exists()
