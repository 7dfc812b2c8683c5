"""Detects in the pictures of a job, with what `standgale detect` uses for single pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.model.predict import Predictor
from standgale.picture_models import load_for_pictures
from standgale.pictures import open_picture

if TYPE_CHECKING:
    from detectors.card.card import ModelCard
    from detectors.model.predict import PictureResult
    from schemas.events import DetectOptions
    from standgale.settings import Settings


class PictureDetector:
    """Detects in one picture after the other. All methods block."""

    def __init__(self, settings: Settings, card: Path, options: DetectOptions) -> None:
        """Load the model of ``card``. Raises ModelLoadError."""
        detector = settings.detector.model_copy(update={"model": card})
        self._predictor = Predictor(load_for_pictures(settings.model_copy(update={"detector": detector})))
        self._options = options
        self._max_pixels = settings.detector.max_pixels

    def detect(self, path: Path) -> tuple[list[dict[str, object]], float]:
        """Return the predictions of the picture at ``path`` as the call-back has them, and milliseconds.

        Raises the errors of :func:`standgale.pictures.open_picture` and :meth:`detectors.model.predict.Predictor.find`.
        """
        started = time.perf_counter()
        with open_picture(path, self._max_pixels) as shown:
            found = self._predictor.find(shown.source, self._options, shown.gsd_m)
        elapsed_ms = (time.perf_counter() - started) * 1_000
        return _predictions(found, self._predictor.model.card), round(elapsed_ms, 3)

    def close(self) -> None:
        """Release the model."""
        self._predictor.close()


def _predictions(found: PictureResult, card: ModelCard) -> list[dict[str, object]]:
    detections = found.detections
    rows = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True)
    return [
        {
            "class_id": index,
            "class_name": card.classes[index].name,
            "confidence": round(score, 4),
            "bbox": [round(side, 1) for side in box],
        }
        for box, score, index in rows
    ]
