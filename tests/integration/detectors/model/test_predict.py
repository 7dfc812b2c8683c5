"""Known rectangles through letterbox, tiles, engine, head and merging, and back into the frame."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray

from detectors.errors import ModelLoadError
from detectors.geometry.arrays import Detections
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Model, Predictor
from schemas.events import DetectOptions
from standgale.testing.graphs import CLASS_NAMES, COLOURS_BGR, SCORES, GraphSpec, write_model

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
Rectangle = tuple[int, int, int, int]


def frame(width: int, height: int, rectangles: dict[int, Rectangle]) -> NDArray[np.uint8]:
    """A black frame with one rectangle per class."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, (left, top, right, bottom) in rectangles.items():
        image[top:bottom, left:right] = COLOURS_BGR[index]
    return image


def assert_found(found: Detections, rectangles: dict[int, Rectangle], within_px: float) -> None:
    assert sorted(found.classes.tolist()) == sorted(rectangles)
    for box, score, index in zip(found.boxes, found.scores, found.classes.tolist(), strict=True):
        assert np.abs(box - rectangles[index]).max() <= within_px
        assert score == pytest.approx(SCORES[index], abs=0.01)


def tiles_of(model: Model, view: FrameView, asked: DetectOptions) -> int:
    return len(model.plan(view, model.resolved(asked, view)))


SPECS = {
    "yolov8": GraphSpec("yolov8"),
    "yolov8-wide": GraphSpec("yolov8", width=160, height=96),
    "yolov8-bgr-fixed-batch": GraphSpec("yolov8", batch=4, channels="bgr", scale=1.0),
    "yolov8-mean-std": GraphSpec("yolov8", mean=0.45, std=0.22),
    "yolox": GraphSpec("yolox", channels="bgr", scale=1.0),
    "yolox-fixed-batch": GraphSpec("yolox", batch=1),
    "yolov5": GraphSpec("yolov5"),
    "yolov5-wide-fixed-batch": GraphSpec("yolov5", width=160, height=96, batch=2),
    "nms-inside": GraphSpec("nms_inside"),
    "nms-inside-wide": GraphSpec("nms_inside", width=160, height=96),
    "yolox-decoded": GraphSpec("yolox_decoded", channels="bgr", scale=1.0),
    "rtdetr": GraphSpec("rtdetr"),
    "rtdetr-wide-turned-fixed-batch": GraphSpec("rtdetr", width=160, height=96, batch=3, turned=True),
    "rfdetr": GraphSpec("rfdetr", mean=0.45, std=0.22, batch=1),
    "rfdetr-wide-turned": GraphSpec("rfdetr", width=160, height=96, turned=True),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_known_boxes_come_back_within_a_pixel(tmp_path: Path, spec: GraphSpec, engine: EngineName) -> None:
    inside = {0: (10, 20, 41, 37), 1: (200, 150, 219, 190), 2: (70, 210, 120, 230)}
    across_edges = {0: (95, 90, 135, 140), 1: (180, 10, 260, 30), 2: (3, 120, 60, 235)}
    with Predictor(load_model(LoadRequest(write_model(tmp_path, spec), engine))) as predictor:
        for rectangles in (inside, across_edges):
            image = frame(300, 240, rectangles)
            assert_found(predictor.predict(image), rectangles, 1.0)
            # Tiles that are scaled down into the input, and the whole frame alone: a pixel of the input is larger.
            scaled = DetectOptions(tile_width=187, tile_height=141, overlap=0.3)
            assert_found(predictor.predict(image, scaled), rectangles, 187 / spec.width)
            whole = DetectOptions(tile_width=300, tile_height=240)
            assert_found(predictor.predict(image, whole), rectangles, 300 / spec.width)


@pytest.mark.parametrize("layout", ["yolov8", "rtdetr"])
@pytest.mark.parametrize("size", [(64, 48), (128, 128), (129, 127), (90, 300)])
def test_frames_of_any_size(tmp_path: Path, size: tuple[int, int], layout: Literal["yolov8", "rtdetr"]) -> None:
    rectangles = {0: (5, 7, 30, 21), 1: (40, 30, 60, 44)}
    with Predictor(load_model(LoadRequest(write_model(tmp_path, GraphSpec(layout)), "onnxruntime"))) as predictor:
        assert_found(predictor.predict(frame(*size, rectangles)), rectangles, 1.0)
        with_whole = predictor.predict(frame(*size, rectangles), DetectOptions(whole_frame=True))
        assert sorted(with_whole.classes.tolist()) == [0, 1]


def test_an_object_larger_than_a_tile_is_one_box(tmp_path: Path) -> None:
    rectangles = {0: (60, 50, 420, 330)}
    with Predictor(load_model(LoadRequest(write_model(tmp_path), "onnxruntime"))) as predictor:
        assert_found(predictor.predict(frame(500, 400, rectangles)), rectangles, 1.0)


def test_predict_without_detections_returns_empty_arrays_of_right_types(tmp_path: Path) -> None:
    with Predictor(load_model(LoadRequest(write_model(tmp_path), "onnxruntime"))) as predictor:
        found = predictor.predict(frame(300, 200, {}))
    assert len(found) == 0
    assert (found.boxes.shape, found.boxes.dtype) == ((0, 4), np.float32)
    assert (found.scores.dtype, found.classes.dtype) == (np.float32, np.int32)


def test_progress_counts_tiles_up_to_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with Predictor(load_model(LoadRequest(write_model(tmp_path), "openvino"))) as predictor:
        predictor.predict(frame(400, 300, {}), progress=lambda done, total: seen.append((done, total)))
        tiles = tiles_of(predictor.model, FrameView(400, 300), DetectOptions())
    assert seen[-1] == (tiles, tiles)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_merge_result_does_not_depend_on_order_of_candidates(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime"))
    view = FrameView(300, 240)
    options = model.resolved(DetectOptions(), view)
    image = frame(300, 240, {0: (95, 90, 135, 140), 1: (180, 10, 260, 30)})
    plan = model.plan(view, options)
    found = model.candidates(model.infer(model.cut(image, plan)), plan, 0, options)
    straight = model.merge(found, plan, options)
    turned = model.merge(found.take(np.arange(len(found))[::-1]), plan, options)
    assert straight.boxes.tolist() == turned.boxes.tolist()
    assert straight.classes.tolist() == turned.classes.tolist()
    model.close()


def test_options_are_filled_from_the_card(tmp_path: Path) -> None:
    card = write_model(
        tmp_path,
        thresholds={"confidence": 0.4, "iou": 0.6},
        tiling={"mode": "fixed", "width": 200, "overlap": 0.1, "whole_frame": True, "scales": [1, 0.5]},
        merge={"method": "greedy_nmm", "metric": "ios", "threshold": 0.7, "class_aware": False, "settle": 0.8},
        max_detections=7,
    )
    model = load_model(LoadRequest(card, "onnxruntime"))
    view = FrameView(300, 240)
    full = model.resolved(DetectOptions(confidence=0.0, whole_frame=False), view).as_options()
    assert full == DetectOptions(
        confidence=0.0,
        overlap=0.1,
        tile_width=200,
        tile_height=128,
        iou=0.6,
        whole_frame=False,
        scales=(1.0, 0.5),
        merge_method="greedy_nmm",
        merge_metric="ios",
        merge_threshold=0.7,
        settle=0.8,
        max_detections=7,
        min_box_px=0.0,
    )
    assert model.resolved(full, view).as_options() == full
    model.close()


def test_a_class_confidence_replaces_that_of_the_card_and_yields_to_the_request(tmp_path: Path) -> None:
    """The graph's scores are 0.9, 0.8 and 0.7."""
    rectangles = {0: (10, 20, 41, 37), 1: (200, 150, 219, 190), 2: (70, 210, 120, 230)}
    own = [
        {"name": name, **extra}
        for name, extra in zip(CLASS_NAMES, ({}, {"confidence": 0.95}, {"confidence": 0.6}), strict=True)
    ]
    card = write_model(tmp_path, classes=own, thresholds={"confidence": 0.85})
    with Predictor(load_model(LoadRequest(card, "onnxruntime"))) as predictor:
        image = frame(300, 240, rectangles)
        assert sorted(predictor.predict(image).classes.tolist()) == [0, 2]
        assert sorted(predictor.predict(image, DetectOptions(confidence=0.75)).classes.tolist()) == [0, 1]
        own_used, asked = (
            predictor.model.resolved(options, FrameView(300, 240)).as_options()
            for options in (DetectOptions(), DetectOptions(confidence=0.75))
        )
    # None: what the card says, so that detecting again with the same options gives the same detections.
    assert (own_used.confidence, asked.confidence) == (None, 0.75)


def test_max_detections_keeps_the_best(tmp_path: Path) -> None:
    rectangles = {0: (10, 20, 41, 37), 1: (200, 150, 219, 190)}
    with Predictor(load_model(LoadRequest(write_model(tmp_path), "onnxruntime"))) as predictor:
        found = predictor.predict(frame(300, 240, rectangles), DetectOptions(max_detections=1))
    assert found.classes.tolist() == [0]


def test_a_card_for_whole_frames_cuts_no_tiles_unless_asked(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path, tiling={"mode": "whole"}), "onnxruntime"))
    assert tiles_of(model, FrameView(500, 400), DetectOptions()) == 1
    assert tiles_of(model, FrameView(500, 400), DetectOptions(tile_width=128)) > 1
    model.close()


def test_the_layout_is_recognised_without_being_named(tmp_path: Path) -> None:
    rectangles = {0: (10, 20, 41, 37)}
    for spec in map(GraphSpec, ("yolov8", "yolov5", "nms_inside", "rtdetr", "rfdetr")):
        with Predictor(
            load_model(LoadRequest(write_model(tmp_path / spec.layout, spec, layout=None), "onnxruntime"))
        ) as predictor:
            assert_found(predictor.predict(frame(128, 128, rectangles)), rectangles, 1.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("spec", "card", "message"),
    [
        (GraphSpec(), {"layout": "yolox"}, "yolox with 3 classes has one output"),
        (GraphSpec("yolox"), {"layout": "yolov8"}, "yolov8 with 3 classes has one output"),
        (GraphSpec(), {"classes": [{"name": "one"}]}, "yolov8 with 1 classes"),
        (GraphSpec(fault="extra_class"), {}, "yolov8 with 3 classes"),
        (GraphSpec(fault="extra_class"), {"layout": None}, "yolox with 3 classes"),
        (GraphSpec(fault="two_outputs"), {}, "has one output"),
        (GraphSpec(fault="nan"), {}, "not numbers"),
        (GraphSpec("yolox", fault="nan"), {}, "not numbers"),
        (GraphSpec(fault="logits"), {}, "not 0 to 1"),
        (
            GraphSpec("rtdetr", fault="float_sizes"),
            {},
            "orig_target_sizes as .*export it with orig_target_sizes as int64",
        ),
        (GraphSpec("rtdetr", fault="other_input"), {}, "takes 3 inputs"),
        (GraphSpec(), {"input": {"width": 64, "height": 64}}, "input.width"),
        (GraphSpec(batch=2), {"input": {"width": 128, "height": 96}}, "input.width"),
    ],
)
def test_load_model_that_differs_from_its_card_raises_model_load_error(
    tmp_path: Path, spec: GraphSpec, card: dict[str, object], message: str, engine: EngineName
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_model(LoadRequest(write_model(tmp_path, spec, **card), engine))


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, engine: Literal["auto", "openvino", "onnxruntime"]) -> None:
    card = write_model(tmp_path)
    text = card.read_text()
    data = b"not an ONNX graph" * 40
    (tmp_path / "model.onnx").write_bytes(data)
    fields = yaml.safe_load(text)
    fields["sha256"] = sha256(data).hexdigest()
    card.write_text(yaml.safe_dump(fields))
    with pytest.raises(ModelLoadError, match="is not an ONNX file"):
        load_model(LoadRequest(card, engine))


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
@pytest.mark.parametrize("opset", [6, 99])
def test_an_opset_no_engine_reads_is_named(
    tmp_path: Path, opset: int, engine: Literal["auto", "openvino", "onnxruntime"]
) -> None:
    card = write_model(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    fields = yaml.safe_load(card.read_text())
    fields["sha256"] = sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    card.write_text(yaml.safe_dump(fields))
    text = rf"is of opset {opset}, engines support 11 to 22 .*export it.*cannot load"
    with pytest.raises(ModelLoadError, match=text):
        load_model(LoadRequest(card, engine))


def test_a_file_that_was_cut_off_or_changed_is_refused(tmp_path: Path) -> None:
    card = write_model(tmp_path)
    data = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelLoadError, match=r"has SHA-256 .* the card .* damaged or a different one; fetch it again"):
        load_model(LoadRequest(card))
    (tmp_path / "model.onnx").write_bytes(data[:-200])
    fields = yaml.safe_load(card.read_text())
    fields["sha256"] = sha256(data[:-200]).hexdigest()
    card.write_text(yaml.safe_dump(fields))
    with pytest.raises(ModelLoadError, match=r"not an ONNX file, or is damaged .*export it again"):
        load_model(LoadRequest(card))


def test_onnxruntime_unsupported_precision_raises_model_load_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="bf16"):
        load_model(LoadRequest(write_model(tmp_path), "onnxruntime", precision="bf16"))


def test_load_model_auto_reason_names_the_preferred_engine(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path), "auto", threads=1))
    assert model.engine.name == "openvino"
    assert "f32" in model.engine.reason
    assert "the preferred engine" in model.engine.reason
    assert "1 thread" in model.engine.reason
    assert [one.name for one in model.card.classes] == list(CLASS_NAMES)
    model.close()
