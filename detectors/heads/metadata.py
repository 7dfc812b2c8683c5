"""Reads what exporters write into an ONNX file's metadata about its classes, input and layout."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import cast

from detectors.card.card import Layout
from detectors.heads.classes import ClassNumbers

Metadata = Mapping[str, str]

# A literal longer than this is no list of class names.
_LONGEST_LITERAL = 1_000_000
# As in the card.
_LARGEST_ID = 100_000
_LONGEST_NUMBER = 9
# Where exporters write the names of classes, the usual place first.
_NAME_KEYS = ("names", "classes", "class_names", "labels", "CLASSES", "id2label", "categories")
_DEEPEST_MAP = 3


def _literal(metadata: Metadata, key: str) -> object:
    """Return the value under ``key``, written as JSON or as a Python literal; None when it is neither.

    Nothing in it is ever run.
    """
    text = metadata.get(key, "")
    if not text or len(text) > _LONGEST_LITERAL:
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if found is not None:
        return found
    try:
        return cast(object, ast.literal_eval(text.strip()))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def class_names(metadata: Metadata) -> dict[int, str] | None:
    """Return the names of the classes by their number, where the file states them.

    They are read as JSON or as Python writes them, from any of the usual keys: a list of names or of maps, a map from
    numbers to names or the other way round, either of these inside a map, or names separated by commas.
    """
    for key in _NAME_KEYS:
        found = _literal(metadata, key)
        if found is None and key in metadata:
            found = _separated(metadata[key])
        names = _names(found)
        if names is not None:
            return names
    return None


def _separated(text: str) -> list[str] | None:
    """Return names that commas or line ends separate; None for text that is meant as something else."""
    if len(text) > _LONGEST_LITERAL or any(each in text for each in "{}[]()"):
        return None
    parts = [part.strip().strip("'\"") for part in text.replace("\n", ",").split(",")]
    kept = [part for part in parts if part]
    meant = any(not part.isdecimal() and part not in ("null", "None") for part in kept)
    return kept if meant else None


def _names(found: object, depth: int = 0) -> dict[int, str] | None:
    """Return the names in ``found`` by their number; None when it is no such thing."""
    if isinstance(found, list | tuple):
        return _listed(found)
    if not isinstance(found, dict) or not found or depth > _DEEPEST_MAP:
        return None
    mapped = _numbered(found)
    if mapped is None:
        # A map of numbers by name, or a map in which one entry has the names.
        mapped = _numbered({number: name for name, number in found.items() if isinstance(number, int)})
        whole = mapped is not None and len(mapped) == len(found)
        mapped = mapped if whole else None
    if mapped is None:
        inner = [found[key] for key in _NAME_KEYS if key in found] or _only_value(found)
        mapped = next((names for each in inner if (names := _names(each, depth + 1)) is not None), None)
    return mapped


def _only_value(found: Mapping[object, object]) -> list[object]:
    """Return the value of a map with one entry, as a list; empty when its key is a class number."""
    ((key, value), *others) = found.items()
    return [] if others or _number(key) is not None else [value]


def _listed(found: Sequence[object]) -> dict[int, str] | None:
    """Return the names in a list of names, or of maps that have a name each, and their number as id where they do."""
    if not found:
        return None
    if all(isinstance(one, str | int) and not isinstance(one, bool) for one in found):
        return {number: str(name) for number, name in enumerate(found)}
    named: dict[object, object] = {}
    for place, one in enumerate(found):
        if not isinstance(one, dict) or "name" not in one:
            return None
        number = _number(one.get("id", place))
        if number is None:
            return None
        named[number] = one["name"]
    return _numbered(named) if len(named) == len(found) else None


def _numbered(found: Mapping[object, object]) -> dict[int, str] | None:
    """Return ``found`` as names by number, in order; None when a key is no class number or a value no name."""
    names: dict[int, str] = {}
    for key, value in found.items():
        number = _number(key)
        name = value.get("name") if isinstance(value, Mapping) else value
        if number is None or isinstance(name, bool) or not isinstance(name, str | int | float):
            return None
        names[number] = str(name)
    return dict(sorted(names.items())) if names and len(names) == len(found) else None


def _number(key: object) -> int | None:
    """Return a class number; JSON writes it as text."""
    if isinstance(key, str) and key.strip().isascii() and key.strip().isdecimal() and len(key) <= _LONGEST_NUMBER:
        key = int(key)
    return key if isinstance(key, int) and not isinstance(key, bool) and 0 <= key <= _LARGEST_ID else None


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


def least_confidence_of(metadata: Metadata) -> float | None:
    """Return the confidence with which an exporter put NMS into the model, or None where it does not say."""
    arguments = _literal(metadata, "args")
    if not isinstance(arguments, dict) or arguments.get("nms") is not True:
        return None
    least = arguments.get("conf")
    return float(least) if isinstance(least, int | float) and 0 < least < 1 else None


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
