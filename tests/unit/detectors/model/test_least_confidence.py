"""Checks that a confidence below that of the NMS inside a model is reported, where the file shows it."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from detectors.card.onnx_file import read_onnx_file
from detectors.model.inspect import inspect_model, write_card
from detectors.model.least_confidence import least_confidence, why_less_finds_nothing
from detectors.model.loading import LoadRequest, load_model
from standgale.cli import app
from standgale.testing.graphs import CLASS_NAMES, GraphSpec, build, change_graph, write_model


def add_nms(model: onnx.ModelProto) -> None:
    """Add an NMS with a score threshold of 0.3, whose result nothing uses."""
    graph = model.graph
    for name, kind, shape, values in (
        ("nms_boxes", TensorProto.FLOAT, [1, 1, 4], [0.0, 0.0, 1.0, 1.0]),
        ("nms_scores", TensorProto.FLOAT, [1, 1, 1], [0.9]),
        ("nms_most", TensorProto.INT64, [1], [1]),
        ("nms_iou", TensorProto.FLOAT, [1], [0.5]),
        ("nms_least", TensorProto.FLOAT, [1], [0.3]),
    ):
        graph.initializer.append(helper.make_tensor(name, kind, shape, values))
    names = [f"nms_{part}" for part in ("boxes", "scores", "most", "iou", "least")]
    graph.node.append(helper.make_node("NonMaxSuppression", names, ["nms_kept"]))


def test_load_model_warns_of_a_confidence_below_that_of_the_nms_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = change_graph(write_model(tmp_path, GraphSpec("nms_inside"), thresholds={"confidence": 0.1}), add_nms)
    with caplog.at_level(logging.WARNING):
        model = load_model(LoadRequest(card, "onnxruntime", 1))
    model.close()
    assert model.least_confidence == pytest.approx(0.3)
    assert "confidence 0.1 was asked for, but the NMS inside the model leaves out scores below 0.3" in caplog.text


def test_inspect_model_writes_the_confidence_of_the_nms_inside(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(build(GraphSpec("nms_inside")))
    add_nms(model)
    path.write_bytes(model.SerializeToString())
    found = inspect_model(path, names=CLASS_NAMES, engine="onnxruntime")
    assert found.card.thresholds.confidence == pytest.approx(0.3)
    assert any("NMS inside the model leaves out scores below 0.3" in each for each in found.assumed)


def test_least_confidence_is_read_from_the_arguments_of_an_export(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(GraphSpec("nms_inside", metadata={"args": "{'nms': True, 'conf': 0.4}"})))
    assert least_confidence(read_onnx_file(path)) == pytest.approx(0.4)


@pytest.mark.parametrize(("asked", "least", "said"), [(0.1, 0.25, True), (0.25, 0.2500001, False), (0.1, None, False)])
def test_why_less_finds_nothing_only_below_a_known_confidence(asked: float, least: float | None, said: bool) -> None:
    assert (why_less_finds_nothing(asked, least) is not None) == said


def test_write_card_under_a_name_leaves_the_first_card_alone(tmp_path: Path) -> None:
    cards = []
    for name in (None, "second"):
        path = tmp_path / f"{name or 'first'}.onnx"
        path.write_bytes(build(GraphSpec(metadata={"names": str(list(CLASS_NAMES))})))
        cards.append(write_card(inspect_model(path, engine="onnxruntime", name=name), tmp_path, name))
    assert [card.name for card in cards] == ["model.yaml", "second.yaml"]
    models = [load_model(LoadRequest(card, "onnxruntime", 1)) for card in cards]
    assert [model.card.name for model in models] == ["first", "second"]
    for model in models:
        model.close()


def test_detect_warns_of_a_confidence_below_that_of_the_nms_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDGALE_DETECTOR__ENGINE", "onnxruntime")
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path))
    card = change_graph(write_model(tmp_path / "m", GraphSpec("nms_inside"), thresholds={"confidence": 0.5}), add_nms)
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.zeros((64, 64, 3), np.uint8))
    arguments = ["detect", str(picture), "--model", str(card), "--json", "--confidence"]
    low, high = (orjson.loads(CliRunner().invoke(app, [*arguments, each]).stdout) for each in ("0.1", "0.4"))
    assert any("leaves out scores below 0.3" in text for text in low["warnings"])
    assert not any("leaves out" in text for text in high["warnings"])
