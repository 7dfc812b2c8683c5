"""Checks how a file's layout is recognised by shapes, names and metadata, and what the errors ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors.card.onnx_file import read_onnx_file
from detectors.errors import ModelLoadError
from detectors.heads.choice import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, why_implausible
from detectors.heads.layouts.nms_inside import NmsInsideHead
from detectors.heads.layouts.objectness import ObjectnessHead
from detectors.heads.layouts.yolox import YoloXHead
from detectors.heads.metadata import class_names, input_size
from detectors.heads.port import HeadRequest
from detectors.model.loading import LoadRequest, load_model
from standgale.testing.graphs import GraphSpec, write_model

NAMES = {"names": "{0: 'red', 1: 'green', 2: 'blue'}", "task": "detect", "stride": "32"}
ONE_CLASS = HeadRequest(64, 64, ClassNumbers(1), ("output0",))


def refused(folder: Path, spec: GraphSpec, **card: object) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(LoadRequest(write_model(folder, spec, **card), "onnxruntime", threads=1))
    return str(caught.value)


@pytest.mark.parametrize("layout", ["yolox", "yolox_decoded"])
def test_raw_and_decoded_yolox_have_equal_shapes_and_have_to_be_named(tmp_path: Path, layout: str) -> None:
    error_text = refused(tmp_path, GraphSpec("yolox" if layout == "yolox" else "yolox_decoded"), layout=None)
    assert "layout: yolox (YOLOX as it is exported by default" in error_text
    assert "or layout: yolox_decoded (" in error_text
    assert "write" in error_text


def test_metadata_distinguishes_one_class_from_final_boxes() -> None:
    shapes = [(1, 252, 6)]
    with pytest.raises(ModelLoadError, match=r"layout: yolov5 \(YOLOv5 and YOLOv7\) or layout: nms_inside"):
        choose_head(None, ONE_CLASS, shapes, {})
    assert isinstance(choose_head(None, ONE_CLASS, shapes, {"end2end": "True"}), NmsInsideHead)
    assert isinstance(choose_head(None, ONE_CLASS, shapes, {"args": "{'nms': True}"}), NmsInsideHead)
    ultralytics = {"names": "['car']", "stride": "32"}
    assert isinstance(choose_head(None, ONE_CLASS, shapes, ultralytics), ObjectnessHead)
    assert isinstance(choose_head("nms_inside", ONE_CLASS, shapes, ultralytics), NmsInsideHead)


@pytest.mark.parametrize(
    ("spec", "card", "expected_texts"),
    [
        (GraphSpec("yolov5"), {"layout": "yolov8"}, "yolov8 with 3 classes has one output"),
        (GraphSpec("nms_inside"), {"layout": "rtdetr"}, "rtdetr has outputs labels"),
        (GraphSpec("rtdetr"), {"layout": "rfdetr"}, "rfdetr with ids|rfdetr with 3 classes"),
        (GraphSpec("rfdetr"), {"layout": "nms_inside"}, "nms_inside has one output"),
        (GraphSpec("rfdetr"), {"classes": [{"name": "one"}]}, "give each class in the card its column as id"),
        (GraphSpec("rfdetr"), {"classes": [{"name": "one", "id": 91}]}, "(N, Q, 92 or more)"),
        (GraphSpec("nms_inside", fault="extra_class"), {}, "found class 7, the card has 3 classes"),
        (GraphSpec("rtdetr", fault="extra_class"), {}, "found class 7, the card has 3 classes"),
        (GraphSpec("yolov5", fault="extra_class"), {}, "this model has output output0 (N, 1008, 9)"),
        (GraphSpec(), {"classes": [{"name": "one", "id": 1}]}, "one column per class in the card's order, without ids"),
        (GraphSpec("nms_inside", metadata=NAMES), {"classes": [{"name": "one"}]}, "names 3 classes (red, green, blue)"),
        (
            GraphSpec("nms_inside", metadata=NAMES),
            {"classes": [{"name": "one", "id": 3}]},
            "names no class 3, the card has it as id",
        ),
        (GraphSpec(metadata={**NAMES, "task": "obb"}), {}, "task 'obb'"),
        (GraphSpec(fault="other_input"), {}, "takes 2 inputs (images, prompt)"),
        (GraphSpec(fault="zero_scores"), {}, "score 0 everywhere, a broken export"),
        (GraphSpec("rtdetr", fault="zero_scores"), {}, "score 0 everywhere, a broken export"),
        (GraphSpec("yolov5", fault="zero_scores"), {}, "score 0 everywhere, a broken export"),
        (GraphSpec(fault="constant"), {}, "a blank and a noise tile give the same outputs"),
        (GraphSpec("nms_inside", fault="nan"), {}, "not numbers"),
        (GraphSpec("rtdetr", fault="nan"), {}, "not numbers"),
        (GraphSpec("rfdetr", fault="nan"), {}, "not numbers"),
        (GraphSpec(fault="normalised"), {}, "shares of the input"),
    ],
)
def test_a_model_that_differs_from_its_card_is_refused(
    tmp_path: Path, spec: GraphSpec, card: dict[str, object], expected_texts: str
) -> None:
    error_text = refused(tmp_path, spec, **card)
    assert any(each in error_text for each in expected_texts.split("|")), error_text


def test_a_card_may_name_some_of_the_classes_by_their_ids(tmp_path: Path) -> None:
    card = write_model(
        tmp_path, GraphSpec("nms_inside", metadata=NAMES), classes=[{"name": "b", "id": 2}, {"name": "r", "id": 0}]
    )
    model = load_model(LoadRequest(card, "onnxruntime", threads=1))
    assert model.card.class_ids == (2, 0)
    model.close()


def test_columns_win_over_outdated_names(tmp_path: Path) -> None:
    stale = {**NAMES, "names": "['one', 'two']"}
    load_model(LoadRequest(write_model(tmp_path, GraphSpec(metadata=stale)), "onnxruntime", threads=1)).close()


def test_boxes_read_in_the_wrong_way_are_noticed() -> None:
    head, size = NmsInsideHead(ClassNumbers(1)), (640, 640)
    centres = np.zeros((2, 4, 6), np.float32)
    centres[1] = [300, 300, 20, 20, 0.9, 0]
    assert "end before they begin" in str(why_implausible(head, (centres,), size))
    huge = np.zeros((2, 4, 6), np.float32)
    huge[1] = [0, 0, 50_000, 50_000, 0.9, 0]
    assert "many times larger" in str(why_implausible(head, (huge,), size))
    endless = np.zeros((2, 4, 6), np.float32)
    endless[1] = [0, 0, np.inf, 5, 0.9, 0]
    assert "infinite" in str(why_implausible(head, (endless,), size))
    raw = np.random.default_rng(1).uniform(-2, 4, (2, 8400, 6)).astype(np.float32)
    raw[..., 2:4], raw[..., 4:] = 1.5, 0.5
    assert "the numbers are grid offsets (layout yolox), not pixels" in str(
        why_implausible(ObjectnessHead.yolox(*size, 1), (raw,), size)
    )
    decoded = np.random.default_rng(1).uniform(30, 600, (2, 8400, 6)).astype(np.float32)
    decoded[..., 4:] = 0.5
    assert "many times larger" in str(why_implausible(YoloXHead(*size, 1), (decoded,), size))
    good = np.zeros((2, 4, 6), np.float32)
    good[1, 0] = [10, 10, 40, 40, 0.9, 0]
    assert why_implausible(head, (good,), size) is None


def test_no_boxes_on_both_tiles_are_accepted_with_nms_inside() -> None:
    assert why_implausible(NmsInsideHead(ClassNumbers(1)), (np.zeros((2, 300, 6), np.float32),), (640, 640)) is None


def test_the_first_tiles_are_a_blank_one_and_always_the_same_noise() -> None:
    blank, noise = first_tiles(64, 32, 114)
    assert (blank == 114).all()
    assert noise.shape == (32, 64, 3)
    assert noise.std() > 60
    assert (first_tiles(64, 32, 114)[1] == noise).all()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'car', 1: 'boat'}", {0: "car", 1: "boat"}),
        ("['car', 'boat']", {0: "car", 1: "boat"}),
        ("{1: 'boat', 0: 'car'}", {0: "car", 1: "boat"}),
        ("{'car': 0, 'boat': 1}", {0: "car", 1: "boat"}),
        ('{"0": "car", "1": "boat"}', {0: "car", 1: "boat"}),
        ('["car", "boat"]', {0: "car", 1: "boat"}),
        ('{"names": {"0": "M\\u00f6we", "10": "voilier \u00e0 moteur"}}', {0: "Möwe", 10: "voilier à moteur"}),
        ('[{"id": 1, "name": "car"}, {"id": 3, "name": "boat"}]', {1: "car", 3: "boat"}),
        ('{"0": {"name": "car", "color": "red"}}', {0: "car"}),
        ("car, boat", {0: "car", 1: "boat"}),
        ('{"0": "car", "00": "boat"}', None),
        ('{"-1": "car"}', None),
        ('{"0": ["car"]}', None),
        ("true", None),
        ("null", None),
        ("9" * 5000, None),
        ("{}", None),
        ("{0: 'car'", None),
        ("[" * 5000, None),
        ("__import__('os')", None),
        ('[{"name": "car", "id": 2}, {"name": "bus", "id": "1"}]', {1: "bus", 2: "car"}),
        ('[{"name": "car", "id": [1]}]', None),
        ('[{"name": "car", "id": {}}]', None),
        ("", None),
    ],
)
def test_class_names_are_read_from_metadata_or_none(text: str, names: dict[int, str] | None) -> None:
    assert class_names({"names": text}) == names
    assert class_names({}) is None


def test_the_input_size_is_read_from_metadata() -> None:
    assert input_size({"imgsz": "[320, 512]"}) == (512, 320)
    assert input_size({"imgsz": "640"}) == (640, 640)
    assert input_size({"imgsz": "[640]"}) is None
    assert input_size({}) is None


def test_inputs_outputs_opset_and_metadata_are_read_from_a_file(tmp_path: Path) -> None:
    write_model(tmp_path, GraphSpec("rtdetr", width=160, height=96, batch=2, turned=True, metadata=NAMES))
    about = read_onnx_file(tmp_path / "model.onnx")
    assert (about.opset, dict(about.metadata)) == (17, NAMES)
    assert [(one.name, one.type, one.shape) for one in about.inputs] == [
        ("images", "float32", (2, 3, 96, 160)),
        ("orig_target_sizes", "int64", (2, 2)),
    ]
    assert [one.name for one in about.outputs] == ["scores", "boxes", "labels"]
    assert about.outputs[1].shape == (2, None, None)


@pytest.mark.parametrize("data", [b"", b"not an ONNX graph" * 40, b"\x08\x08", b"\xff" * 64, b"\x3a\x7f\x00"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match="is not an ONNX file"):
        read_onnx_file(path)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelLoadError, match="is not an ONNX file"):
        read_onnx_file(path)
    with pytest.raises(ModelLoadError, match=r"gone\.onnx cannot be read"):
        read_onnx_file(tmp_path / "gone.onnx")
