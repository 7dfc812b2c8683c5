"""Runs single tiles of a real model on many cores, with the very same outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.engines.measuring.sample_tiles import sample_tiles
from detectors.engines.registry import EngineEntry
from detectors.errors import ModelLoadError
from detectors.model import engine_check
from detectors.model.loading import LoadRequest, load_model
from standgale.testing.graphs import write_model

ALONE = "a tile alone runs on many threads"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_single_tiles_have_the_same_outputs_as_many(engine: str) -> None:
    wanted = LoadRequest(engine=engine, threads=2)
    model, other = load_model(replace(wanted, lone_tiles=True)), load_model(wanted)
    assert ALONE in model.engine.reason
    assert ALONE not in other.engine.reason
    tiles = sample_tiles(model.card.input.width, model.card.input.height, 3)
    for ours, theirs in zip(model.infer(tiles), other.infer(tiles), strict=True):
        assert np.array_equal(ours, theirs)
    for number in range(3):
        one = tiles[number : number + 1]
        assert all(np.array_equal(*each) for each in zip(model.infer(one), other.infer(one), strict=True))
    model.close()
    other.close()


@pytest.mark.parametrize("reason", ["one thread", "large weights", "no memory"])
def test_model_without_room_or_threads_for_a_second_engine_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    threads = 1 if reason == "one thread" else 2
    if reason == "large weights":
        monkeypatch.setattr(engine_check, "_MOST_WEIGHTS_TWICE_BYTES", 0)
    if reason == "no memory":
        open_entry = EngineEntry.open

        def fails_with_one_stream(entry: EngineEntry, request: object) -> object:
            if getattr(request, "streams", 0) == 1:
                raise ModelLoadError("too large")
            return open_entry(entry, request)  # type: ignore[arg-type]

        monkeypatch.setattr(EngineEntry, "open", fails_with_one_stream)
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime", threads, lone_tiles=True))
    assert ALONE not in model.engine.reason
    model.close()
