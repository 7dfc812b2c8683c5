"""Names the family of models that outputs resemble when no layout reads them, and says what to export instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from detectors.heads.grids import pyramid_counts
from detectors.heads.port import Shape

_ULTRALYTICS = "yolo export model=MODEL.pt format=onnx"
_STRIDES = (8, 16, 32, 64, 128)
_DFL = 64
_COARSEST_MAP = 4
# A class, a box and at least five points of three numbers.
_FEWEST_ROWS_OF_POSE = 5 + 14


@dataclass(frozen=True, slots=True)
class Family:
    """Says what outputs look like, and what to export instead."""

    looks: str
    """What they resemble, after "it looks like" """
    remedy: str
    """What to do, as an imperative"""

    def __str__(self) -> str:
        return f"it looks like {self.looks}; {self.remedy}"


_RAW_MAPS = "export it with its last step inside, which makes boxes of the maps"
_YOLO_RAW = Family(
    "the raw maps of YOLOv5 or YOLOv7, before boxes are made of them",
    "export it with its detection layer (YOLOv5: python export.py --include onnx; YOLOv7: python export.py --grid), "
    "which gives one output (N, boxes, 5 + classes)",
)
_YOLO_CONVOLUTIONS = Family(
    "the raw maps of YOLOv3, YOLOv4 or YOLOv7, one for each stride, before boxes are made of them",
    f"{_RAW_MAPS}: YOLOv3 by Ultralytics ({_ULTRALYTICS}), YOLOv7 with --grid, YOLOv4 with an exporter that gives "
    "boxes (N, A, 4) and scores (N, A, classes), layout boxes_scores",
)
_YOLOV8_CONVOLUTIONS = Family(
    "YOLOv8 or YOLO11 cut off before its last layers, as chips of Rockchip or Hailo want it",
    f"export the whole model: {_ULTRALYTICS}",
)
_MANY_MAPS = Family(
    "the raw maps of RetinaNet, EfficientDet or FCOS, one pair for each stride",
    "export it with boxes decoded, as (N, A, 4) beside scores (N, A, classes), layout boxes_scores, "
    "or with NMS inside, layout tf_nms or nms_inside",
)
_MANY_ROWS = Family(
    "NanoDet, or another detector with a group of outputs for each stride, before boxes are made of them",
    "export it with boxes decoded, as (N, A, 4) beside scores (N, A, classes), layout boxes_scores, or with NMS inside",
)
_SEGMENTATION = Family(
    "a segmentation model of YOLO (boxes beside masks)",
    f"export the detection model of the same size instead, without -seg in its name: {_ULTRALYTICS}",
)
_SEMANTIC = Family(
    "semantic segmentation or a heat map (one map of the whole image)",
    "Standgale reads boxes: export a model that detects objects",
)
_CLASSIFICATION = Family(
    "classification (one score per class for the whole image)",
    "Standgale reads boxes: export a model that detects objects, for example yolov8n.pt instead of yolov8n-cls.pt",
)
_CENTERNET = Family(
    "CenterNet (a map of centres beside maps of sizes)", "export it with its decoding, as one output (N, boxes, 6)"
)
_TORCHVISION = Family(
    "a detector of torchvision (Faster R-CNN, RetinaNet, SSD, FCOS): boxes, labels and scores without an axis of tiles",
    "wrap it so that it returns one output (1, K, 6), x1, y1, x2, y2 in pixels, score and label: layout nms_inside; "
    'docs/models.md has the lines, under "torchvision"',
)
_END2END = Family(
    "YOLOv7 or YOLOv6 exported with NMS for ONNX Runtime: the first column is the number of the image",
    "export it without --end2end, with --grid: layout yolov5",
)
_DETR = Family(
    "DETR (queries with logits, the last of which is no object)",
    "export RT-DETR or RF-DETR, or wrap it so that it returns one output (N, Q, 6) with x1, y1, x2, y2 in pixels, "
    "score and class, layout nms_inside",
)
_ONNX_SSD = Family(
    "SSD of the ONNX model zoo, or another export with labels, boxes and scores of other names",
    "rename its outputs labels, boxes and scores where its boxes are corners in pixels of the input: layout rtdetr",
)
_RETINAFACE = Family(
    "RetinaFace, SCRFD, YuNet or another model for faces with landmarks (boxes, scores and landmarks, as offsets from "
    "anchors)",
    "export a model without landmarks and with boxes decoded, for example UltraFace, layout boxes_scores",
)
_EFFICIENTDET = Family(
    "EfficientDet of Google's automl (rows of image number, y, x, y, x, score, class), or rotated boxes",
    "for EfficientDet export four outputs with num_detections, layout tf_nms; for rotated boxes write layout: "
    "nms_inside_obb",
)
UNDECODED = Family(
    "RetinaNet, EfficientDet or SSD without decoding: its boxes are offsets from anchors",
    "export it with boxes decoded, then layout boxes_scores reads it, or with NMS inside",
)
"""Boxes beside scores whose boxes make no sense as they are."""
_BESIDE = Family(
    "boxes beside scores (YOLO-NAS, DAMO-YOLO, SSD, UltraFace)",
    "layout boxes_scores reads it: state the right number of classes, without the background",
)


def family_of(names: Sequence[str], shapes: Sequence[Shape], size: tuple[int, int]) -> Family | None:
    """Return the family that outputs with ``names`` and ``shapes`` (first axis: the tile) resemble; None for no known.

    ``size``: width and height of the input in pixels.
    """
    ranks = sorted(len(shape) for shape in shapes)
    if 5 in ranks:
        return _with_extra(names, shapes) or _YOLO_RAW
    if ranks == [3, 4]:
        return _SEGMENTATION
    if 4 in ranks and ranks[0] == 4:
        return _of_maps(shapes, size)
    if ranks and ranks[-1] <= 2:
        return _of_flat(names, shapes)
    if ranks == [2, 2, 3]:
        return _ONNX_SSD
    return _of_rows(names, shapes, size) if ranks and ranks[0] == ranks[-1] == 3 else None


def _with_extra(names: Sequence[str], shapes: Sequence[Shape]) -> Family | None:
    """Return what to do with an export that has raw maps beside the output that can be read."""
    whole = [name for name, shape in zip(names, shapes, strict=True) if len(shape) == 3]
    if len(whole) != 1:
        return None
    return Family(
        "an older export of YOLOv5, with its raw maps beside the output that counts",
        f"keep that one only: onnx.utils.extract_model('in.onnx', 'out.onnx', [input], ['{whole[0]}'])",
    )


def _of_maps(shapes: Sequence[Shape], size: tuple[int, int]) -> Family:
    """Return the family of maps (N, channels, height, width), or with the channels last."""
    if len(shapes) == 1:
        sides = sorted(shapes[0][1:])
        return _YOLO_CONVOLUTIONS if sides[0] * _STRIDES[1] <= min(size) and sides[1] * 8 <= max(size) else _SEMANTIC
    # The sides of every map have the ratio of the input's.
    first_sides = all(shape[2] * size[0] == shape[3] * size[1] for shape in shapes)
    last = not first_sides and all(shape[1] * size[0] == shape[2] * size[1] for shape in shapes)
    channels = [shape[3] if last else shape[1] for shape in shapes]
    maps = {shape[1:3] if last else shape[2:] for shape in shapes}
    if len(shapes) <= _COARSEST_MAP and len(maps) == 1:
        return _CENTERNET if 2 in channels else _SEMANTIC
    if len(set(channels)) == 1 and len(shapes) <= _COARSEST_MAP:
        anchored = channels[0] % 3 == 0 and channels[0] // 3 > 5
        return _YOLO_CONVOLUTIONS if anchored else _YOLOV8_CONVOLUTIONS
    if _DFL in channels and len(shapes) in (6, 9):
        return _YOLOV8_CONVOLUTIONS
    return _MANY_MAPS


def _of_flat(names: Sequence[str], shapes: Sequence[Shape]) -> Family | None:
    """Return the family of outputs without an axis of boxes for each tile."""
    ranks = sorted(len(shape) for shape in shapes)
    if ranks == [1, 1, 2] and any(len(shape) == 2 and shape[1] == 4 for shape in shapes):
        return _TORCHVISION
    if ranks != [2]:
        return None
    return _END2END if shapes[0][1] == 7 and "prob" not in names[0] else _CLASSIFICATION


def _of_rows(names: Sequence[str], shapes: Sequence[Shape], size: tuple[int, int]) -> Family | None:
    """Return the family of outputs that each are rows of numbers for a tile."""
    widths = sorted(shape[2] for shape in shapes)
    if len(shapes) == 2 and 4 in widths:
        return _DETR if {"logits", "pred_boxes"} == set(names) else _BESIDE
    per_stride = _is_per_stride(shapes)
    if 10 in widths and (per_stride or (len(shapes) == 3 and widths[0] in (2, 4))):
        return _RETINAFACE
    if per_stride:
        return _MANY_ROWS
    if len(shapes) != 1:
        return None
    rows, columns = shapes[0][1:]
    return _EFFICIENTDET if columns == 7 else _of_one_table(rows, columns, size)


def _is_per_stride(shapes: Sequence[Shape]) -> bool:
    """Whether there are several numbers of rows, one for each stride, and as many outputs, more than one, of each."""
    outputs = Counter(shape[1] for shape in shapes).values()
    return len(outputs) > 1 and len(set(outputs)) == 1 and min(outputs) > 1


def _of_one_table(rows: int, columns: int, size: tuple[int, int]) -> Family:
    """Return what one output (N, rows, columns) is, with as many classes as it can have."""
    fewer, anchors = min(rows, columns), max(rows, columns)
    upright = rows < columns
    known = pyramid_counts(*size)
    fits = anchors in known if upright else anchors in known or anchors in {3 * count for count in known}
    for_size = "" if fits else f", exported for an input of other than {size[0]}×{size[1]} pixels"
    state = "state its classes with --classes, or in the card" if fits else "state its size with --size, or in the card"
    if not upright:
        return Family(f"YOLOv5, YOLOv7 or YOLOX with {max(fewer - 5, 0)} classes{for_size}", state)
    if (fewer - 5) % 3 == 0 and fewer > _FEWEST_ROWS_OF_POSE:
        points = (fewer - 5) // 3
        return Family(
            f"YOLOv8 or YOLO11 with {fewer - 4} classes, or for poses of {points} points{for_size}",
            f"{state}; of a model for poses export the detection model instead ({_ULTRALYTICS})",
        )
    return Family(f"YOLOv8 or YOLO11 with {max(fewer - 4, 0)} classes{for_size}", state)
