"""Builds the outputs of each export layout from what a small detector found."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from standgale.testing.graphs.builder import (
    GraphBuilder,
    anchors,
    centre_columns,
    class_numbers,
    confidences,
    corner_columns,
    pad_rows,
    score_table,
    stack_columns,
    stack_rows,
)
from standgale.testing.graphs.spec import FINISHED_ROWS, NO_ANGLE, RFDETR_COLUMNS, RFDETR_IDS, SCORES, GraphSpec
from standgale.testing.graphs.text import grounding_dino


def _yolov8(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = stack_rows(graph, centre_columns(sides), score_table(graph, spec, found))
    padded = pad_rows(graph, rows, anchors(spec.width, spec.height))
    return {"output0": graph.op("Transpose", padded, perm=[0, 2, 1])}


def _yolov5(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = stack_rows(graph, [*centre_columns(sides), found], score_table(graph, spec, found))
    return {"output0": pad_rows(graph, rows, 3 * anchors(spec.width, spec.height))}


def _yolox_decoded(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = stack_rows(graph, [*centre_columns(sides), found], score_table(graph, spec, found))
    return {"output": pad_rows(graph, rows, anchors(spec.width, spec.height))}


def _yolox(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    eighth = graph.constant(1 / 8)
    columns = []
    for (centre, _), cells in zip(sides, ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0]), strict=True):
        columns.append(graph.op("Sub", graph.op("Mul", centre, eighth), graph.constant(cells)))
    columns += [graph.op("Log", graph.op("Mul", side, eighth)) for _, side in sides]
    rows = stack_rows(graph, [*columns, found], score_table(graph, spec, found))
    return {"output": pad_rows(graph, rows, anchors(spec.width, spec.height))}


def _nms_inside(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    number = graph.op("Mul", class_numbers(graph, spec, found), found)
    columns = [*corner_columns(graph, sides, found), confidences(graph, spec, found)]
    last = graph.op("Unsqueeze", number, graph.constant([2], np.int64))
    return {"output0": pad_rows(graph, stack_rows(graph, columns, last), FINISHED_ROWS)}


def _rtdetr(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Boxes are shares of the input times the sizes asked for, [w, h]."""
    shares = graph.op(
        "Mul",
        stack_columns(graph, corner_columns(graph, sides, found)),
        graph.constant([1 / spec.width, 1 / spec.height] * 2),
    )
    wanted = graph.op("Cast", "orig_target_sizes", to=TensorProto.FLOAT)
    twice = graph.op("Concat", wanted, wanted, axis=1)
    boxes = graph.op("Mul", shares, graph.op("Unsqueeze", twice, graph.constant([1], np.int64)))
    labels = graph.op("Cast", class_numbers(graph, spec, found), to=TensorProto.INT64)
    return {"labels": labels, "boxes": boxes, "scores": confidences(graph, spec, found)}


def _rfdetr(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Logits in 91 columns; those of no class are as sure as the best, so that reading one of them shows."""
    sizes = graph.constant([1 / spec.width, 1 / spec.height] * 2)
    dets = graph.op("Mul", stack_columns(graph, centre_columns(sides)), sizes)
    logits = np.full((3, RFDETR_COLUMNS), -9.0, np.float32)
    logits[:, 1] = 9.0
    for row, (column, score) in enumerate(zip(RFDETR_IDS, SCORES, strict=True)):
        logits[row, column] = np.log(score / (1 - score))
    there = graph.op("Unsqueeze", found, graph.constant([2], np.int64))
    absent = graph.op("Mul", graph.op("Sub", there, graph.constant(1.0)), graph.constant(18.0))
    return {"dets": dets, "labels": graph.op("Add", graph.constant(logits), absent)}


def _yolov8_obb(graph: GraphBuilder, spec: GraphSpec, columns: list[str], found: str) -> dict[str, str]:
    *upright, angle = columns
    rows = stack_rows(graph, upright, score_table(graph, spec, found))
    count = anchors(spec.width, spec.height)
    padding = graph.constant([0, 0, 0, count - 3], np.int64)
    elsewhere = graph.constant(NO_ANGLE * (180 / np.pi if spec.fault == "degrees" else 1))
    angles = graph.op("Unsqueeze", graph.op("Pad", angle, padding, elsewhere), graph.constant([2], np.int64))
    whole = graph.op("Concat", pad_rows(graph, rows, count), angles, axis=2)
    return {"output0": graph.op("Transpose", whole, perm=[0, 2, 1])}


def _nms_inside_obb(graph: GraphBuilder, spec: GraphSpec, columns: list[str], found: str) -> dict[str, str]:
    *upright, angle = columns
    rest = [graph.op("Mul", value, found) for value in (class_numbers(graph, spec, found), angle)]
    rows = stack_columns(graph, [*upright, confidences(graph, spec, found), *rest])
    return {"output0": pad_rows(graph, rows, FINISHED_ROWS)}


def _boxes_scores(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Boxes beside scores; where nothing is, small boxes with a low score, as real models have."""
    how, count = spec.boxes, anchors(spec.width, spec.height)
    columns = centre_columns(sides) if how.form == "centre" else corner_columns(graph, sides, found)
    places = np.random.default_rng(0).uniform(0.1, 0.9, (count, 2)) * [spec.width, spec.height]
    side = np.array([8.0, 6.0])
    elsewhere = np.concatenate((places, places * 0 + side if how.form == "centre" else places + side), axis=1)
    elsewhere[:3] = 0
    boxes = graph.op("Add", pad_rows(graph, stack_columns(graph, columns), count), graph.constant(elsewhere))
    if how.unit == "shares":
        boxes = graph.op("Mul", boxes, graph.constant([1 / spec.width, 1 / spec.height] * 2))
    low = np.full((count, 1), 0.01)
    low[:3] = 0
    scores = graph.op("Add", pad_rows(graph, score_table(graph, spec, found), count), graph.constant(low))
    if how.background != "none":
        total = graph.op("ReduceSum", scores, graph.constant([2], np.int64), keepdims=1)
        rest = graph.op("Sub", graph.constant(1.0), total)
        scores = graph.op("Concat", *((rest, scores) if how.background == "first" else (scores, rest)), axis=2)
    return {"boxes": boxes, "scores": scores}


def _parts(graph: GraphBuilder, spec: GraphSpec, found: str) -> list[str]:
    """Number of boxes, scores and class numbers of the three colours; the number counts all three rows."""
    scores = confidences(graph, spec, found)
    zero = graph.op("Mul", graph.op("ReduceSum", found, graph.constant([1], np.int64)), graph.constant(0.0))
    return [graph.op("Add", zero, graph.constant(3.0)), scores, class_numbers(graph, spec, found)]


def _tf_nms(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    x1, y1, x2, y2 = corner_columns(graph, sides, found)
    sizes = graph.constant([1 / spec.height, 1 / spec.width] * 2)
    boxes = graph.op("Mul", stack_columns(graph, [y1, x1, y2, x2]), sizes)
    count, scores, numbers = _parts(graph, spec, found)
    return {
        "num_detections": count,
        "detection_boxes": boxes,
        "detection_scores": scores,
        "detection_classes": graph.op("Add", numbers, graph.constant(1.0)),
    }


def _nms_parts(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    boxes = stack_columns(graph, corner_columns(graph, sides, found))
    count, scores, numbers = _parts(graph, spec, found)
    return {"num_dets": count, "det_boxes": boxes, "det_scores": scores, "det_classes": numbers}


def _mmdet(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    dets = stack_columns(graph, [*corner_columns(graph, sides, found), confidences(graph, spec, found)])
    return {"dets": dets, "labels": class_numbers(graph, spec, found)}


ROTATED_LAYOUTS = {"yolov8_obb": _yolov8_obb, "nms_inside_obb": _nms_inside_obb}
LAYOUTS = {
    "yolov8": _yolov8,
    "yolov5": _yolov5,
    "nms_inside": _nms_inside,
    "yolox": _yolox,
    "yolox_decoded": _yolox_decoded,
    "rtdetr": _rtdetr,
    "rfdetr": _rfdetr,
    "grounding_dino": grounding_dino,
    "boxes_scores": _boxes_scores,
    "tf_nms": _tf_nms,
    "nms_parts": _nms_parts,
    "mmdet": _mmdet,
}
