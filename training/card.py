"""Writes the card of an exported model: what it is, how to feed it, how it was made and measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from training.metrics import Metrics
from training.scenes.spec import CLASS_NAMES

_COLOURS = {"vehicle": "#e6194b", "boat": "#4363d8", "person": "#f58231", "bird": "#911eb4"}
_MAX_SIZES_M = {"vehicle": 20.0, "boat": 30.0, "person": 2.5, "bird": 3.0}

CardValue = str | int | float | bool | list["CardValue"] | dict[str, "CardValue"]
Card = dict[str, CardValue]


@dataclass(frozen=True)
class Thresholds:
    """Holds the lowest score of a box that counts, and the overlap from which two boxes of a class are one object."""

    confidence: float = 0.5
    iou: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """Records how a model was made, so that it can be made again."""

    command: str
    seeds: str
    scenes: int
    steps: int


@dataclass(frozen=True)
class ModelFile:
    """Describes an exported model: the ONNX file's checksum, and the side of its square input in pixels."""

    name: str
    version: str
    sha256: str
    input_px: int
    files: Mapping[str, str]
    """Further files of the version, with their SHA-256."""


def write_training_card(path: Path, model: ModelFile, thresholds: Thresholds, recipe: Recipe) -> Path:
    """Write the card of a freshly exported model, not yet evaluated; returns its path."""
    classes: list[CardValue] = [
        {"name": label, "color": _COLOURS[label], "max_size_m": _MAX_SIZES_M[label]} for label in CLASS_NAMES
    ]
    card: Card = {
        "name": model.name,
        "version": model.version,
        "file": "model.onnx",
        "sha256": model.sha256,
        "files": dict(model.files),
        "layout": "yolov8",
        "input": {
            "width": model.input_px,
            "height": model.input_px,
            "channels": "rgb",
            "scale": 1 / 255,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "letterbox": "center",
            "pad": 114,
        },
        "classes": classes,
        "thresholds": {"confidence": thresholds.confidence, "iou": thresholds.iou},
        "tiling": {"mode": "fixed", "width": model.input_px, "height": model.input_px, "overlap": 0.2},
        "merge": {"method": "nms", "metric": "iou", "threshold": thresholds.iou},
        "licence": "Apache-2.0",
        "training": {
            "command": recipe.command,
            "seeds": recipe.seeds,
            "scenes": recipe.scenes,
            "steps": recipe.steps,
        },
    }
    _write(path, card)
    return path


def _write(path: Path, card: Card) -> None:
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def record_evaluation(path: Path, tiled: Metrics, whole: Metrics, scenes: int) -> None:
    """Put measured figures into a card's `training.evaluated`."""
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    card["training"]["evaluated"] = {
        "map50_tiled": round(tiled.map50, 4),
        "map50_whole": round(whole.map50, 4),
        "map50_95_tiled": round(tiled.map50_95, 4),
        "precision_tiled": round(tiled.precision, 4),
        "recall_tiled": round(tiled.recall, 4),
        "scenes": scenes,
    }
    _write(path, card)
