"""The model card beside an exported model: what it is, how to feed it, how it was made and measured."""

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
class CardSettings:
    """What of the card does not follow from the file: thresholds and where the model comes from."""

    confidence: float = 0.3
    iou: float = 0.5
    command: str = "python -m training.train"
    seeds: str = ""
    scenes: int = 0
    steps: int = 0


def write_card(path: Path, name: str, version: str, sha256: str, input_px: int, settings: CardSettings) -> Path:
    """Write the card of a freshly exported model, not yet evaluated; returns its path."""
    classes: list[CardValue] = [
        {"name": label, "color": _COLOURS[label], "max_size_m": _MAX_SIZES_M[label]} for label in CLASS_NAMES
    ]
    card: Card = {
        "name": name,
        "version": version,
        "file": "model.onnx",
        "sha256": sha256,
        "layout": "yolov8",
        "input": {
            "width": input_px,
            "height": input_px,
            "channels": "rgb",
            "scale": 1 / 255,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "letterbox": "center",
            "pad": 114,
        },
        "classes": classes,
        "thresholds": {"confidence": settings.confidence, "iou": settings.iou},
        "tiling": {"mode": "fixed", "width": input_px, "height": input_px, "overlap": 0.2},
        "merge": {"method": "nms", "metric": "ios", "threshold": settings.iou},
        "licence": "Apache-2.0",
        "training": {
            "command": settings.command,
            "seeds": settings.seeds,
            "scenes": settings.scenes,
            "steps": settings.steps,
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
