"""Known rotated rectangles through letterbox, tiles, engine, head and merging, and back into frame, event and JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from detectors.errors import ModelLoadError
from detectors.geometry.arrays import Detections, FloatArray
from detectors.model.inspect import inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from detectors.worker.frames.detections_event import make_detections
from detectors.worker.pipeline.pipeline import InferencePipeline
from schemas.events import DetectionsMade, DetectOptions, FrameCaptured, ImageRef
from schemas.ids import frame_id
from standgale.cli import app
from standgale.testing.graphs import CLASS_NAMES, COLOURS_BGR, SCORES, GraphSpec, build, write_model
from tests.pictures import Rectangle, corner_distance, paint, quad_of

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")
Things = dict[int, FloatArray]

SPECS = {
    "yolov8": GraphSpec("yolov8_obb"),
    "yolov8-wide-fixed-batch": GraphSpec("yolov8_obb", width=160, height=96, batch=3),
    "nms-inside": GraphSpec("nms_inside_obb"),
    "nms-inside-wide": GraphSpec("nms_inside_obb", width=160, height=96, mean=0.45, std=0.22),
}
OBB = {"names": "{0: 'red', 1: 'green', 2: 'blue'}", "task": "obb", "stride": "32"}
INSIDE: dict[int, Rectangle] = {0: (40, 40, 60, 16, 25), 1: (240, 70, 50, 12, -40), 2: (90, 190, 44, 14, 110)}


def picture(width: int, height: int, things: Things) -> NDArray[np.uint8]:
    """A black frame with one thing per class."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, quad in things.items():
        paint(image, quad, COLOURS_BGR[index])
    return image


def assert_found(found: Detections, things: Things, within_px: float, turns: tuple[int, ...] = (0, 2)) -> None:
    assert found.quads is not None
    assert sorted(found.classes.tolist()) == sorted(things)
    for quad, box, score, index in zip(found.quads, found.boxes, found.scores, found.classes.tolist(), strict=True):
        assert corner_distance(quad, things[index], turns) <= within_px
        assert box == pytest.approx([*quad.min(axis=0), *quad.max(axis=0)], abs=1e-3)
        assert score == pytest.approx(SCORES[index], abs=0.01)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_known_corners_come_back_within_a_pixel(tmp_path: Path, spec: GraphSpec, engine: EngineName) -> None:
    inside = {index: quad_of(one) for index, one in INSIDE.items()}
    upright = {0: quad_of((150, 60, 60, 20, 0)), 1: quad_of((60, 150, 30, 12, 90))}
    with Predictor(load_model(LoadRequest(write_model(tmp_path, spec), engine))) as predictor:
        for things in (inside, upright):
            image = picture(300, 240, things)
            assert_found(predictor.predict(image), things, 1.0)
            # Tiles that are scaled down into the input, and the whole frame alone: a pixel of the input is larger.
            scaled = DetectOptions(tile_width=187, tile_height=141, overlap=0.5)
            assert_found(predictor.predict(image, scaled), things, max(187 / spec.width, 141 / spec.height))
            whole = DetectOptions(tile_width=300, tile_height=240)
            assert_found(predictor.predict(image, whole), things, max(300 / spec.width, 240 / spec.height))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["yolov8_obb", "nms_inside_obb"])
def test_predict_rotated_with_stretched_input_returns_parallelograms(
    tmp_path: Path, layout: Literal["yolov8_obb", "nms_inside_obb"], engine: EngineName
) -> None:
    side, tile = 128, (192, 144)
    scale = np.array([side / tile[0], side / tile[1]], np.float32)
    # Rectangles in the model's eyes; in the frame their sides do not stand upright on each other.
    things = {
        index: quad_of(one) / scale for index, one in {0: (60, 40, 50, 14, 30), 1: (140, 120, 40, 12, 125)}.items()
    }
    card = write_model(tmp_path, GraphSpec(layout), input={"width": side, "height": side, "letterbox": "stretch"})
    with Predictor(load_model(LoadRequest(card, engine))) as predictor:
        options = DetectOptions(tile_width=tile[0], tile_height=tile[1], overlap=0.5)
        found = predictor.predict(picture(300, 240, things), options)
    assert_found(found, things, float(1 / scale.min()))
    assert found.quads is not None
    sides = np.roll(found.quads, -1, axis=1) - found.quads
    assert np.abs((sides[:, 0] * sides[:, 1]).sum(axis=1)).min() > 50


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("degrees", [-35, 0, 20, 45, 70])
def test_a_thing_no_tile_sees_whole_is_one_rotated_box(tmp_path: Path, degrees: float, engine: EngineName) -> None:
    things = {1: quad_of((215, 190, 200, 30, degrees))}
    with Predictor(load_model(LoadRequest(write_model(tmp_path, GraphSpec("nms_inside_obb")), engine))) as predictor:
        # The best part says which side is the first one, and a part may be wider than it is long.
        assert_found(predictor.predict(picture(430, 380, things)), things, 2.5, turns=(0, 1, 2, 3))


def test_things_at_the_frames_edge_keep_their_corners_and_boxes_stay_inside(tmp_path: Path) -> None:
    with Predictor(load_model(LoadRequest(write_model(tmp_path, GraphSpec("yolov8_obb")), "onnxruntime"))) as predictor:
        # The rectangle around what is left of a thing in the frame's corner leaves the frame.
        found = predictor.predict(picture(128, 128, {0: quad_of((10, 10, 70, 24, 45))}))
    assert found.quads is not None
    assert found.quads.min() < -1
    assert found.boxes.min() == 0
    assert found.boxes[0, 2:].tolist() == pytest.approx(found.quads[0].max(axis=0).tolist())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["yolov8_obb", "nms_inside_obb"])
def test_thin_things_that_cross_are_two(
    tmp_path: Path, layout: Literal["yolov8_obb", "nms_inside_obb"], engine: EngineName
) -> None:
    # Enclosed by upright boxes they are nearly the same; rotated they share a few pixels.
    things = {0: quad_of((150, 120, 90, 9, 40)), 1: quad_of((150, 120, 90, 9, -40))}
    card = write_model(tmp_path, GraphSpec(layout), merge={"class_aware": False, "metric": "ios", "threshold": 0.5})
    with Predictor(load_model(LoadRequest(card, engine))) as predictor:
        for method in ("nms", "greedy_nmm", "nmm"):
            options = DetectOptions(merge_method=method)  # type: ignore[arg-type]  # a test's parameter
            assert_found(predictor.predict(picture(300, 240, things), options), things, 1.0)


def test_predict_without_detections_returns_empty_arrays_of_right_types(tmp_path: Path) -> None:
    with Predictor(load_model(LoadRequest(write_model(tmp_path, GraphSpec("yolov8_obb")), "onnxruntime"))) as predictor:
        found = predictor.predict(picture(300, 200, {}))
    assert found.quads is not None
    assert (found.quads.shape, found.quads.dtype, found.boxes.shape) == ((0, 4, 2), np.float32, (0, 4))


@pytest.mark.parametrize(
    ("spec", "card", "message"),
    [
        (GraphSpec("yolov8_obb", metadata=OBB), {"layout": "yolov8"}, "task 'obb'.*write layout: yolov8_obb or layout"),
        (GraphSpec("nms_inside_obb", metadata=OBB), {"layout": "nms_inside"}, "task 'obb', rotated boxes"),
        (
            GraphSpec("yolov8", fault="extra_class", metadata={**OBB, "task": "detect"}),
            {"layout": "yolov8_obb"},
            "task 'detect', upright boxes; write layout: yolov8,",
        ),
        (GraphSpec("yolov8_obb", metadata={**OBB, "task": "segment"}), {}, "task 'segment'; export .* detect or obb"),
        (GraphSpec("yolov8", fault="extra_class"), {"layout": "yolov8_obb"}, "write the layout without _obb"),
        (GraphSpec("yolov8_obb"), {"layout": None}, "if its boxes are rotated, write layout: yolov8_obb"),
        (GraphSpec("nms_inside_obb"), {"layout": None}, "if its boxes are rotated, write layout: nms_inside_obb"),
        (GraphSpec("yolov8_obb"), {"layout": "nms_inside_obb"}, r"nms_inside_obb has one output \(N, boxes, 7\)"),
        (GraphSpec("nms_inside_obb"), {"layout": "yolov8_obb"}, "yolov8_obb with 3 classes has one output"),
        (GraphSpec("yolov8_obb"), {"classes": [{"name": "one"}]}, "yolov8_obb with 1 classes has one output"),
        (GraphSpec("yolov8_obb"), {"classes": [{"name": "one", "id": 4}]}, "without ids"),
        (GraphSpec("nms_inside_obb", metadata=OBB), {"classes": [{"name": "one"}]}, r"names 3 classes \(red, green"),
        (GraphSpec("nms_inside_obb", fault="extra_class"), {}, "found class 7, the card has 3 classes"),
        (GraphSpec("yolov8_obb", fault="degrees"), {}, "not within a full turn in radians"),
        (GraphSpec("yolov8_obb", fault="nan"), {}, "not numbers"),
        (GraphSpec("nms_inside_obb", fault="nan"), {}, "not numbers"),
        (GraphSpec("yolov8_obb", fault="zero_scores"), {}, "score 0 everywhere"),
        (GraphSpec("yolov8_obb", fault="constant"), {}, "give the same outputs|every angle"),
        (GraphSpec("yolov8_obb", fault="normalised"), {}, "shares of the input|every angle"),
    ],
)
def test_load_model_that_differs_from_its_card_raises_model_load_error(
    tmp_path: Path, spec: GraphSpec, card: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_model(LoadRequest(write_model(tmp_path, spec, **card), "onnxruntime", threads=1))


@pytest.mark.parametrize(
    ("spec", "layout"),
    [
        (GraphSpec("yolov8_obb", metadata=OBB), None),
        (GraphSpec("nms_inside_obb", metadata={**OBB, "end2end": "True"}), None),
        (GraphSpec("nms_inside_obb", metadata={**OBB, "args": "{'nms': True}"}), None),
        (GraphSpec("yolov8_obb"), "yolov8_obb"),
    ],
)
def test_a_file_is_recognised_and_the_card_written_for_it_finds_known_corners(
    tmp_path: Path, spec: GraphSpec, layout: Literal["yolov8_obb"] | None
) -> None:
    (tmp_path / "turned.onnx").write_bytes(build(spec))
    found = inspect_model(tmp_path / "turned.onnx", layout, () if spec.metadata else CLASS_NAMES, engine="onnxruntime")
    assert (found.card.layout, [one.name for one in found.card.classes]) == (spec.layout, list(CLASS_NAMES))
    things = {2: quad_of((60, 60, 70, 20, 33))}
    with Predictor(load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime", 1))) as predictor:
        assert_found(predictor.predict(picture(128, 128, things)), things, 1.0)


def test_inspection_does_not_take_a_class_score_for_an_angle(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(build(GraphSpec("yolov8", fault="extra_class")))
    found = inspect_model(tmp_path / "model.onnx", engine="onnxruntime")
    assert (found.card.layout, len(found.card.classes)) == ("yolov8", 4)


async def test_the_event_carries_corners_normalised_to_the_frame(tmp_path: Path) -> None:
    things = {index: quad_of(one) for index, one in INSIDE.items()}
    data = cv2.imencode(".png", picture(300, 240, things))[1].tobytes()
    model = load_model(LoadRequest(write_model(tmp_path, GraphSpec("nms_inside_obb")), "onnxruntime", 1))
    pipeline = InferencePipeline(model, host_threads=1, max_pixels=1_000_000)
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    image = ImageRef(
        uri="file:///x.png", sha256="0" * 64, size_bytes=len(data), media_type="image/png", width=300, height=240
    )
    frame = FrameCaptured(
        frame_id=frame_id("drone-1", now, image.sha256),
        device_id="drone-1",
        captured_at=now,
        received_at=now,
        image=image,
    )
    result = await pipeline.detect(data, DetectOptions())
    pipeline.close()
    answer = make_detections(frame, model.card, result, detected_at=now, fetch_ms=1.0, total_ms=2.0)
    again = DetectionsMade.from_bytes(answer.to_bytes())
    assert [one.label for one in again.detections] == list(CLASS_NAMES)
    for one in again.detections:
        assert one.corners is not None
        quad = np.array([(corner.x * 300, corner.y * 240) for corner in one.corners], np.float32)
        assert corner_distance(quad, things[one.class_id]) <= 1.0
        assert (one.box.x1 * 300, one.box.y2 * 240) == pytest.approx((quad[:, 0].min(), quad[:, 1].max()), abs=1e-2)


def test_the_command_line_prints_corners_in_pixels(tmp_path: Path) -> None:
    card = write_model(tmp_path, GraphSpec("yolov8_obb"))
    path = tmp_path / "turned.png"
    things = {0: quad_of(INSIDE[0])}
    cv2.imwrite(str(path), picture(300, 240, things))
    result = CliRunner().invoke(app, ["detect", str(path), "--model", str(card), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = orjson.loads(result.stdout)["detections"]
    assert corner_distance(np.array(row["corners"], np.float32), things[0]) <= 1.1
