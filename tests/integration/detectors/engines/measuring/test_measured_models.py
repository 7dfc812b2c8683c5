"""Real models are measured once, and run as they were measured."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import orjson
import pytest
from typer.testing import CliRunner

from detectors.card.card import InputCard, default_card_path
from detectors.engines.measuring.measurement_cache import processor_of
from detectors.engines.measuring.sample_tiles import sample_tiles
from detectors.engines.port import EngineRequest, Way
from detectors.engines.registry import ENGINES
from detectors.errors import ModelLoadError
from detectors.model.loading import LoadRequest, load_model, measure_model
from infra.errors import SettingsError
from standgale.cli import app
from standgale.testing.graphs import GraphSpec, write_model


def test_sample_tiles_show_the_shipped_model_something() -> None:
    model = load_model(LoadRequest(None, "onnxruntime"))
    card = model.card.input
    tiles = sample_tiles(card.width, card.height, 3)
    assert (tiles.shape, tiles.dtype) == ((3, card.height, card.width, 3), np.uint8)
    assert (tiles == sample_tiles(card.width, card.height, 3)).all()
    best = model.infer(tiles)[0][:, 4:].max(axis=(1, 2))
    model.close()
    assert (best > 0.5).all()


def test_load_model_measures_once_and_then_uses_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "detectors.engines.registry.ENGINES", {name: ENGINES[name] for name in ("openvino", "onnxruntime")}
    )
    card = write_model(tmp_path / "model", GraphSpec())
    wanted = LoadRequest(card, threads=2, measure_s=0.5, engines_folder=tmp_path / "memory")
    with caplog.at_level(logging.INFO, "detectors.model.loading"):
        first = load_model(wanted)
    assert "measured how rectangles 1.0.0 runs fastest" in caplog.text
    assert " measured" in first.engine.reason
    caplog.clear()
    with caplog.at_level(logging.INFO, "detectors.model.loading"):
        again = load_model(wanted)
    assert "measured how" not in caplog.text
    assert "measured earlier" in again.engine.reason
    assert again.engine.name == first.engine.name
    assert (again.infer(TILES_128)[0] == first.infer(TILES_128)[0]).all()
    for model in (first, again):
        model.close()


TILES_128 = sample_tiles(128, 128, 2)


def test_load_model_measures_again_when_cached_way_does_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = write_model(tmp_path / "model", GraphSpec())
    wanted = LoadRequest(card, "onnxruntime", threads=2, measure_s=0.3, engines_folder=tmp_path / "memory")
    load_model(wanted).close()
    (path,) = (tmp_path / "memory").glob("*.json")
    found = json.loads(path.read_text())
    found["measurements"]["way"] = {"engine": "onnxruntime", "precision": "bf16", "streams": 0, "batch": 0}
    path.write_text(json.dumps(found))
    load_model(wanted).close()
    assert "does not run any longer" in caplog.text
    assert json.loads(path.read_text())["measurements"]["way"]["precision"] == "f32"


def test_of_several_workers_that_start_at_once_one_measures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = LoadRequest(
        write_model(tmp_path / "model"), "onnxruntime", threads=2, measure_s=0.5, engines_folder=tmp_path / "memory"
    )
    with caplog.at_level(logging.INFO, "detectors.model.loading"), ThreadPoolExecutor(3) as workers:
        models = list(workers.map(load_model, [wanted] * 3))
    assert sum("measured how" in record.message for record in caplog.records) == 1
    assert sorted("measured earlier" in model.engine.reason for model in models) == [False, True, True]
    for model in models:
        model.close()


def test_another_version_is_run_as_the_one_that_was_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = write_model(tmp_path / "1", GraphSpec())
    second = write_model(tmp_path / "2", GraphSpec(metadata={"version": "2"}), version="2.0.0")
    memory = tmp_path / "memory"
    load_model(LoadRequest(first, "onnxruntime", threads=2, measure_s=0.3, engines_folder=memory)).close()
    (path,) = memory.glob("*.json")
    found = json.loads(path.read_text())
    found["measurements"]["way"] = {"engine": "onnxruntime", "precision": "f32", "streams": 1, "batch": 0}
    path.write_text(json.dumps(found))
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, engines_folder=memory))
    assert "(measured with another version)" in model.engine.reason
    assert "1 session(s) of 2 thread(s)" in model.engine.reason
    model.close()
    (memory / "rectangles-of-someone-else.json").write_text("{}")
    other_request = load_model(LoadRequest(second, "onnxruntime", threads=1, engines_folder=memory))
    assert "another version" not in other_request.engine.reason
    other_request.close()
    found["measurements"]["way"]["precision"] = "bf16"
    path.write_text(json.dumps(found))
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, engines_folder=memory))
    assert "does not run this one" in caplog.text
    assert "2 session(s) of 1 thread(s)" in model.engine.reason
    model.close()
    assert len(list(memory.glob("*.json"))) == 2


def test_second_version_with_different_outputs_keeps_the_preferred_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_model(tmp_path / "1", GraphSpec())
    second = write_model(tmp_path / "2", GraphSpec(metadata={"version": "2"}), version="2.0.0")
    memory = tmp_path / "memory"
    load_model(LoadRequest(first, "onnxruntime", threads=2, measure_s=0.3, engines_folder=memory)).close()
    monkeypatch.setattr("detectors.model.engine_check.why_different", lambda *_: "it says something else")
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, engines_folder=memory))
    assert "it says something else" in caplog.text
    assert "the preferred engine" in model.engine.reason or "requested" in model.engine.reason
    model.close()


def test_model_measure_command_prints_and_saves_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("STANDGALE_DETECTOR__THREADS", "2")
    card = str(write_model(tmp_path / "model", GraphSpec()))
    arguments = ["model", "measure", card, "--seconds", "0.5", "--engine", "onnxruntime"]
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert printed.exit_code == 0, printed.output
    fields = orjson.loads(printed.stdout)
    assert [row["engine"] for row in fields["measured"]] == ["onnxruntime", "onnxruntime"]
    assert [row["chosen"] for row in fields["measured"]].count(True) == 1
    assert len(list((tmp_path / "data" / "engines").glob("*.json"))) == 1
    text = CliRunner().invoke(app, arguments)
    assert text.exit_code == 0, text.output
    assert "chosen" in text.output
    assert "onnxruntime f32" in text.output
    wrong = CliRunner().invoke(app, [*arguments[:3], "--precision", "f99"])
    assert isinstance(wrong.exception, SettingsError)


def test_nothing_is_measured_unless_asked(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path / "model"), engines_folder=tmp_path / "memory"))
    assert "computes in f32" in model.engine.reason
    assert not (tmp_path / "memory").exists()
    model.close()


@pytest.mark.skipif(
    "avx512_bf16" not in processor_of(Path("/proc/cpuinfo"))[1], reason="this processor does not compute in bf16"
)
def test_the_shipped_model_finds_the_same_boxes_in_bf16(tmp_path: Path) -> None:
    tuned = measure_model(
        LoadRequest(default_card_path(), "openvino", threads=2, measure_s=1.0, engines_folder=tmp_path)
    )
    rows = {(one.way.precision, one.way.streams, one.way.batch): one for one in tuned.ways}
    assert rows["bf16", 0, 0].note == ""
    assert rows["bf16", 0, 0].tiles_per_s
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_precision_the_processor_does_not_have_is_refused(tmp_path: Path) -> None:
    if "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in f16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("nothing is less exact than f16 here")
    with pytest.raises(
        ModelLoadError, match="precision f16: OpenVINO computes in bf16 on this CPU, which is less exact"
    ):
        load_model(LoadRequest(write_model(tmp_path), "openvino", precision="f16"))


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_every_way_computes_the_same_outputs(tmp_path: Path, name: str, streams: int, batch: int) -> None:
    card = write_model(tmp_path, GraphSpec())
    request = EngineRequest(card.with_name("model.onnx"), InputCard(width=128, height=128), 2, "f32")
    tiles = sample_tiles(128, 128, 7)
    usual = ENGINES[name].open(request)
    (expected,) = usual.run(tiles)
    usual.close()
    engine = ENGINES[name].open(request.run_as(Way(name, "f32", streams, batch), "a test"))
    assert engine.batch_size % max(batch, 1) == 0
    assert np.abs(engine.run(tiles)[0] - expected).max() < 1e-4
    engine.close()
