"""Writes the card of an exported model: what it is, how to feed it, how it was made and measured."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from schemas.errors import StandgaleError
from training.figures import ClassFigures
from training.metrics import Metrics
from training.scenes.spec import CLASS_NAMES

_COLOURS = {"vehicle": "#e6194b", "boat": "#4363d8", "person": "#f58231", "bird": "#911eb4"}
_MAX_SIZES_M = {"vehicle": 20.0, "boat": 30.0, "person": 2.5, "bird": 3.0}
# The longer sides of the objects in the training crops, in pixels.
_OBJECT_PX = (8.0, 250.0)
# The ground sampling distances at which cars have the sizes that most labelled ones had in training, 9 to 95 pixels.
_GSD_M = (0.05, 0.5)

CardValue = str | int | float | bool | list["CardValue"] | dict[str, "CardValue"]
Card = dict[str, CardValue]


class CardError(StandgaleError):
    """Says that a card cannot be changed as requested."""


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
        "tiling": {
            "mode": "fixed",
            "width": model.input_px,
            "height": model.input_px,
            "overlap": 0.2,
            "scales": "auto",
            "object_px": list(_OBJECT_PX),
            "gsd_m": list(_GSD_M),
        },
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


@contextmanager
def edited(path: Path) -> Iterator[Card]:
    """Read a card for changes, and write it afterwards; nothing is written after an error."""
    card: Card = yaml.safe_load(path.read_text(encoding="utf-8"))
    yield card
    _write(path, card)


def part(card: Card, *names: str) -> Card:
    """Return the mapping under ``names`` of a card; mappings that are missing are added."""
    for name in names:
        inner = card.setdefault(name, {})
        if not isinstance(inner, dict):
            raise CardError(f"the card's {name} is {inner!r}; write a mapping there")
        card = inner
    return card


def rounded(**figures: float) -> Card:
    """Return figures with four digits, without those that could not be measured."""
    return {name: round(value, 4) for name, value in figures.items() if not math.isnan(value)}


def class_summary(figures: ClassFigures) -> Card:
    """Return the figures of one class as a card has them: in all, and by the longer side of its objects in pixels."""
    sizes: Card = {
        name: {"objects": one.things, **rounded(recall=one.recall, map50=one.ap50, map50_95=one.ap50_95)}
        for name, one in figures.sizes.items()
        if one.things
    }
    return {
        "objects": figures.things,
        **rounded(precision=figures.precision, recall=figures.recall, map50=figures.ap50, map50_95=figures.ap50_95),
        "sizes_px": sizes,
    }


def record_evaluation(
    path: Path, tiled: Metrics, whole: Metrics, scenes: int, classes: Mapping[str, ClassFigures]
) -> None:
    """Put figures of drawn scenes into a card's `training.evaluated`; those of photographs stay."""
    with edited(path) as card:
        evaluated = part(card, "training", "evaluated")
        evaluated.update(
            {
                "map50_tiled": round(tiled.map50, 4),
                "map50_whole": round(whole.map50, 4),
                "map50_95_tiled": round(tiled.map50_95, 4),
                "precision_tiled": round(tiled.precision, 4),
                "recall_tiled": round(tiled.recall, 4),
                "scenes": scenes,
                "classes_tiled": {name: class_summary(one) for name, one in classes.items()},
            }
        )
