"""Reads what exporters write into an ONNX file's metadata about its classes, input and layout."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from detectors.card.card import Layout
from detectors.heads.classes import ClassNumbers

Metadata = Mapping[str, str]

# A literal longer than this is no list of class names.
_LONGEST_LITERAL = 1_000_000
# As in the card.
_LARGEST_ID = 100_000


def _literal(metadata: Metadata, key: str) -> object:
    """Return the Python literal under ``key``, or None when there is none that can be read."""
    text = metadata.get(key, "")
    if not text or len(text) > _LONGEST_LITERAL:
        return None
    try:
        found: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return found


def class_names(metadata: Metadata) -> dict[int, str] | None:
    """Return the names of the classes by their number, where the file states them (``names``)."""
    found = _literal(metadata, "names")
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, dict) or not found:
        return None
    names = {
        number: str(name) for number, name in found.items() if isinstance(number, int) and 0 <= number <= _LARGEST_ID
    }
    return dict(sorted(names.items())) if len(names) == len(found) else None


def input_size(metadata: Metadata) -> tuple[int, int] | None:
    """Return the width and height in pixels the model was exported for (``imgsz``, written as height and width)."""
    found = _literal(metadata, "imgsz")
    if isinstance(found, int):
        return found, found
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(side, int) for side in found):
        return int(found[1]), int(found[0])
    return None


def layouts_meant(metadata: Metadata) -> frozenset[Layout] | None:
    """Return the layouts of exporters that write this metadata, or None when it does not show the layout."""
    arguments = _literal(metadata, "args")
    nms = isinstance(arguments, dict) and arguments.get("nms") is True
    finished = nms or metadata.get("end2end") == "True"
    if metadata.get("task") == "obb":
        return frozenset({"nms_inside_obb" if finished else "yolov8_obb"})
    if finished:
        return frozenset({"nms_inside"})
    if "stride" in metadata and "names" in metadata:
        return frozenset({"yolov8", "yolov5"})
    return None


def foreign_task(metadata: Metadata) -> str | None:
    """Return why a model of the task in the metadata cannot be read, or None."""
    task = metadata.get("task", "detect")
    known = task in ("detect", "obb")
    return None if known else f"its metadata says task {task!r}; export the model for task detect or obb"


def task_against(metadata: Metadata, rotated: bool) -> str | None:
    """Return why the task in the metadata excludes a layout with ``rotated`` or with upright boxes, or None."""
    task = metadata.get("task")
    if task == "obb" and not rotated:
        return (
            "its metadata says task 'obb', rotated boxes; write layout: yolov8_obb or layout: nms_inside_obb "
            "into the card, or leave layout out"
        )
    if task == "detect" and rotated:
        return (
            "its metadata says task 'detect', upright boxes; write layout: yolov8, yolov5 or nms_inside into the card, "
            "or leave layout out"
        )
    return None


def names_against(metadata: Metadata, classes: ClassNumbers) -> str | None:
    """Return why the names in the metadata contradict the card's ``classes``, or None."""
    names = class_names(metadata)
    if names is None:
        return None
    if classes.stated:
        unknown = sorted(set(classes.numbers.tolist()) - set(names))
        return f"its metadata names no class {unknown[0]}, the card has it as id" if unknown else None
    if len(names) != classes.count:
        listed = ", ".join(list(names.values())[:5]) + (", …" if len(names) > 5 else "")
        return (
            f"its metadata names {len(names)} classes ({listed}), the card {classes.count}: list them all in that "
            "order as classes in the card, or give those you want their number as id"
        )
    return None
