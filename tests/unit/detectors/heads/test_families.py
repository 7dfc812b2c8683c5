"""Checks which family of models a refusal names, and that it names what to export instead."""

from __future__ import annotations

import re

import pytest

from detectors.heads.families import family_of
from detectors.heads.port import Shape

SIZE = (640, 640)
MAPS = [(80, 80), (40, 40), (20, 20)]
# Outputs as the projects export them, and what is named.
FAMILIES: list[tuple[str, list[str], list[Shape], str]] = [
    ("yolov5 raw", ["a", "b", "c"], [(2, 3, *sides, 85) for sides in MAPS], "raw maps of YOLOv5 or YOLOv7"),
    (
        "yolov5 old",
        ["output", "a", "b", "c"],
        [(2, 25200, 85), *((2, 3, *sides, 85) for sides in MAPS)],
        r"older export of YOLOv5.*extract_model\(.*\['output'\]",
    ),
    ("yolov3", ["a", "b", "c"], [(2, 255, *sides) for sides in MAPS], "YOLOv3, YOLOv4 or YOLOv7"),
    ("yolov4 nhwc", ["a", "b", "c"], [(2, *sides, 255) for sides in MAPS], "YOLOv3, YOLOv4 or YOLOv7"),
    ("yolov2", ["grid"], [(2, 125, 20, 20)], "YOLOv3, YOLOv4"),
    ("yolov8 cut off", ["a", "b", "c"], [(2, 65, *sides) for sides in MAPS], "YOLOv8 or YOLO11 cut off"),
    (
        "rockchip",
        list("abcdef"),
        [shape for sides in MAPS for shape in ((2, 64, *sides), (2, 80, *sides))],
        "YOLOv8 or YOLO11 cut off",
    ),
    (
        "retinanet",
        [f"o{number}" for number in range(10)],
        [(2, channels, 80 >> level, 80 >> level) for channels in (720, 36) for level in range(5)],
        "raw maps of RetinaNet, EfficientDet or FCOS",
    ),
    ("segmentation", ["output0", "output1"], [(2, 116, 8400), (2, 32, 160, 160)], "segmentation model of YOLO"),
    ("semantic", ["out"], [(2, 21, 640, 640)], "semantic segmentation"),
    ("centernet", ["hm", "wh", "reg"], [(2, 80, 160, 160), (2, 2, 160, 160), (2, 2, 160, 160)], "CenterNet"),
    ("classification", ["prob"], [(2, 1000)], "classification"),
    ("yolov7 end2end", ["output"], [(13, 7)], "without --end2end"),
    ("torchvision", ["boxes", "labels", "scores"], [(5, 4), (5,), (5,)], "torchvision .*nms_inside"),
    ("detr", ["logits", "pred_boxes"], [(2, 100, 92), (2, 100, 4)], "DETR"),
    ("ssd zoo", ["bboxes", "labels", "scores"], [(2, 200, 4), (2, 200), (2, 200)], "ONNX model zoo"),
    ("retinaface", ["l", "c", "m"], [(2, 16800, 4), (2, 16800, 2), (2, 16800, 10)], "RetinaFace"),
    (
        "scrfd",
        list("abcdefghi"),
        [(2, rows, width) for width in (1, 4, 10) for rows in (12800, 3200, 800)],
        "SCRFD.*without landmarks",
    ),
    (
        "yunet",
        list("abcdefghijkl"),
        [(2, rows, width) for width in (1, 1, 4, 10) for rows in (6400, 1600, 400)],
        "YuNet.*without landmarks",
    ),
    (
        "nanodet",
        list("abcdef"),
        [(2, rows, width) for width in (80, 32) for rows in (6400, 1600, 400)],
        "NanoDet.*layout boxes_scores",
    ),
    ("efficientdet", ["detections"], [(2, 100, 7)], "EfficientDet.*tf_nms"),
    ("pose", ["output0"], [(2, 56, 8400)], "poses of 17 points"),
    ("other size", ["output0"], [(2, 84, 3549)], "80 classes, exported for an input of other than 640×640"),
    ("other classes", ["output0"], [(2, 84, 8400)], "with 80 classes; state its classes"),
    ("yolov7", ["output"], [(2, 25200, 85)], "YOLOv7 or YOLOX with 80 classes; state"),
    ("beside", ["b", "s"], [(2, 8400, 4), (2, 8400, 81)], "layout boxes_scores"),
]


@pytest.mark.parametrize(
    ("names", "shapes", "words"), [each[1:] for each in FAMILIES], ids=[each[0] for each in FAMILIES]
)
def test_family_of_names_the_family_and_a_remedy(names: list[str], shapes: list[Shape], words: str) -> None:
    found = str(family_of(names, shapes, SIZE))
    assert re.search(words, found), found
    assert "; " in found


@pytest.mark.parametrize("shapes", [[], [(2,)], [(2, 3, 4, 5, 6, 7)], [(2, 9), (2, 9), (2, 9, 4), (2, 1)]])
def test_family_of_unknown_outputs_is_none(shapes: list[Shape]) -> None:
    assert family_of([str(number) for number in range(len(shapes))], shapes, SIZE) is None
