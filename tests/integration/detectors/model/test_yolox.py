"""A YOLOX file on an aerial photo: the predictor equals a plain decode of the same model, written out here."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import yaml
from numpy.typing import NDArray

from detectors.geometry.arrays import Detections
from detectors.geometry.boxes import iou_matrix
from detectors.images.decode import decode_image
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from schemas.events import DetectOptions
from tests.graphs.yolox_net import build_yolox
from tests.paths import real_file

SIDE = 416
CONFIDENCE, IOU = 0.1, 0.45
Boxes = NDArray[np.float64]


@pytest.fixture(scope="module", params=["built", "real"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A YOLOX file and a photo: made here, and real ones."""
    if request.param == "real":
        return real_file("yolox_nano_416.onnx"), real_file("brighton_DJI_0028.jpg")
    folder = tmp_path_factory.mktemp("built")
    model, photo = folder / "yolox.onnx", folder / "photo.jpg"
    model.write_bytes(build_yolox())
    cv2.imwrite(str(photo), patchwork(2250, 4000))
    return model, photo


def patchwork(height: int, width: int) -> NDArray[np.uint8]:
    """A picture with contrast at every scale."""
    random = np.random.default_rng(1)
    image = np.zeros((height, width, 3), np.float32)
    for cell, share in ((400, 0.3), (100, 0.3), (25, 0.25), (6, 0.15)):
        patches = random.integers(0, 256, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        image += share * cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photo(data: tuple[Path, Path]) -> NDArray[np.uint8]:
    image = decode_image(data[1].read_bytes(), max_pixels=20_000_000)
    assert image.shape == (2250, 4000, 3)
    assert np.abs(image.astype(int) - cv2.imread(str(data[1]))).mean() < 1
    return image


@pytest.fixture(scope="module")
def card(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = data[0]
    path = tmp_path_factory.mktemp("yolox") / "yolox_nano.yaml"
    fields = {
        "name": "yolox-nano",
        "version": "0.1.1",
        "file": str(model),
        "sha256": sha256(model.read_bytes()).hexdigest(),
        "layout": "yolox",
        "input": {"width": SIDE, "height": SIDE, "channels": "bgr", "scale": 1.0, "letterbox": "top_left"},
        "classes": [{"name": f"coco-{number}"} for number in range(80)],
        "thresholds": {"confidence": CONFIDENCE, "iou": IOU},
        "licence": "Apache-2.0",
    }
    path.write_text(yaml.safe_dump(fields))
    return path


def plain_tile(session: ort.InferenceSession, tile: NDArray[np.uint8]) -> list[tuple[Boxes, float, int]]:
    """(box in tile pixels, score, class) of one tile: letterbox, run, decode the grid, NMS per class."""
    ratio = min(SIDE / tile.shape[0], SIDE / tile.shape[1])
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    small = cv2.resize(tile, (int(tile.shape[1] * ratio), int(tile.shape[0] * ratio)))
    back = np.array([tile.shape[1] / small.shape[1], tile.shape[0] / small.shape[0]] * 2)
    canvas[: small.shape[0], : small.shape[1]] = small
    (output,) = session.run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)})
    found: list[tuple[Boxes, float, int]] = []
    row = 0
    for stride in (8, 16, 32):
        for grid_y in range(SIDE // stride):
            for grid_x in range(SIDE // stride):
                values = output[0, row].astype(np.float64)
                row += 1
                label = int(values[5:].argmax())
                score = values[4] * values[5 + label]
                if score < CONFIDENCE:
                    continue
                x, y = (values[0] + grid_x) * stride, (values[1] + grid_y) * stride
                w, h = np.exp(values[2]) * stride, np.exp(values[3]) * stride
                box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * back
                found.append((np.clip(box, 0, [tile.shape[1], tile.shape[0]] * 2), float(score), label))
    return plain_nms(found, IOU)


def plain_nms(found: list[tuple[Boxes, float, int]], threshold: float) -> list[tuple[Boxes, float, int]]:
    kept: list[tuple[Boxes, float, int]] = []
    for box, score, label in sorted(found, key=lambda one: -one[1]):
        rivals = [other for other, _, kind in kept if kind == label]
        if all(iou_matrix(box[None], rival[None])[0, 0] <= threshold for rival in rivals):
            kept.append((box, score, label))
    return kept


def assert_same(found: Detections, expected: list[tuple[Boxes, float, int]]) -> None:
    assert len(found) == len(expected)
    for box, score, label in expected:
        overlap = iou_matrix(box[None], found.boxes)[0]
        same = (overlap >= 0.99) & (found.classes == label) & (np.abs(found.scores - score) < 0.01)
        assert same.sum() == 1, f"{label} {score:.3f} at {box}: best IoU {overlap.max():.3f}"


@pytest.fixture(scope="module")
def session(data: tuple[Path, Path]) -> ort.InferenceSession:
    return ort.InferenceSession(str(data[0]), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_whole_frame_equals_a_plain_decode(
    card: Path, photo: NDArray[np.uint8], session: ort.InferenceSession, engine: str
) -> None:
    expected = plain_tile(session, photo)
    assert expected
    with Predictor(load_model(LoadRequest(card, engine))) as predictor:  # type: ignore[arg-type]  # parametrised text
        found = predictor.predict(photo, DetectOptions(tile_width=4000, tile_height=2250, merge_threshold=IOU))
    assert_same(found, expected)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_tiles_equal_plain_decodes_of_each_tile(
    card: Path, photo: NDArray[np.uint8], session: ort.InferenceSession, engine: str
) -> None:
    """Tiles over the middle of the photo, each compared with its own plain decode."""
    part = np.ascontiguousarray(photo[700:1900, 1500:3500])
    with Predictor(load_model(LoadRequest(card, engine))) as predictor:  # type: ignore[arg-type]  # parametrised text
        model = predictor.model
        asked, view = DetectOptions(tile_width=600, tile_height=500, overlap=0.2), FrameView(2000, 1200)
        options = model.resolved(asked, view)
        plan = model.plan(view, options)
        total = 0
        for number, (left, top, right, bottom) in enumerate(plan.boxes.tolist()):
            outputs = model.infer(model.cut(part, plan, number, 1))
            tile = model.candidates(outputs, plan, number, options)
            expected = [
                (box + np.array([left, top, left, top]), score, label)
                for box, score, label in plain_tile(session, part[top:bottom, left:right])
            ]
            assert_same(Detections(tile.boxes, tile.scores, tile.classes), expected)
            total += len(expected)
        assert total > 5
        merged = predictor.predict(part, asked)
    assert 0 < len(merged) <= total
