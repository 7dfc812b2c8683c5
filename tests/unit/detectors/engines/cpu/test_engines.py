"""Both engines give the same numbers as the graph fed by hand, for any number of tiles, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.card.card import read_card
from detectors.engines import installed, registry
from detectors.engines.cpu.onnxruntime import to_input
from detectors.engines.port import Engine, EngineRequest
from detectors.engines.registry import load_engine
from detectors.errors import InferenceError, ModelLoadError
from standgale.testing.graphs import GraphSpec, write_model

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)


def load(folder: Path, name: EngineName, spec: GraphSpec, threads: int = 2) -> Engine:
    card = read_card(write_model(folder, spec))
    return load_engine(name, EngineRequest(folder / card.file, card.input, threads, card.precision))


def tiles(count: int) -> NDArray[np.uint8]:
    """Tiles that all differ: a rectangle per colour, placed by the tile's number."""
    made = np.zeros((count, 32, 64, 3), np.uint8)
    for index, tile in enumerate(made):
        tile[5:20, 3 + index : 20 + index, index % 3] = 255
    return made


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_engines_agree_and_keep_the_order_of_tiles(tmp_path: Path, batch: int | None) -> None:
    spec = GraphSpec(width=64, height=32, mean=0.4, std=0.3, batch=batch)
    answers = []
    for name in ENGINES:
        engine = load(tmp_path / name, name, spec)
        one_by_one = np.concatenate([engine.run(tiles(11)[at : at + 1])[0] for at in range(11)])
        (together,) = engine.run(tiles(11))
        assert together.dtype == np.float32
        assert (together == one_by_one).all()
        answers.append(together)
        engine.close()
    assert np.abs(answers[0] - answers[1]).max() < 1e-4
    centres = answers[0][:, 0].max(axis=1)
    assert np.diff(centres).tolist() == pytest.approx([1.0] * 10, abs=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_many_threads_share_an_engine(tmp_path: Path, name: EngineName) -> None:
    engine = load(tmp_path, name, SPEC)
    (expected,) = engine.run(tiles(7))
    with ThreadPoolExecutor(8) as pool:
        for (answer,) in pool.map(lambda _: engine.run(tiles(7)), range(40)):
            assert (answer == expected).all()
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_a_failing_run_is_an_inference_error_and_the_engine_lives_on(tmp_path: Path, name: EngineName) -> None:
    engine = load(tmp_path, name, SPEC)
    for _ in range(5):
        with pytest.raises(InferenceError):
            engine.run(np.zeros((2, 16, 16, 3), np.uint8))
    assert engine.run(tiles(3))[0].shape[0] == 3
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_how_it_likes_to_be_fed(tmp_path: Path, name: EngineName) -> None:
    engine = load(tmp_path, name, SPEC, threads=2)
    assert engine.name == name
    assert engine.batch_size >= 1
    assert engine.parallel >= 1
    assert "f32" in engine.reason
    engine.close()


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
