"""Says how a model is asked for boxes of low score, which average precision needs."""

from typing import Final

from detectors.geometry.arrays import Detections, ImageArray
from detectors.model.predict import Predictor
from detectors.tiling.sources import ArraySource
from schemas.events import DetectOptions

SCORE_FLOOR = 0.01
"""Average precision needs predictions of low score too; below this they are too many and change nothing."""
MOST_DETECTIONS = 20_000
# Pieces of a thing that was found whole are left out as ever. Boxes of other classes, which at the card's confidence
# would not exist, hide nothing.
_SETTLES_PIECES_ONLY: Final = 0.9999


def both(
    predictor: Predictor, image: ImageArray, options: DetectOptions, floor: float
) -> tuple[Detections, Detections]:
    """Return what is found with ``options``, as `standgale detect` does, and what is with scores down to ``floor``.

    Precision and recall are read from the first, average precision from the second. Both are at the same scales, also
    where the image decides them.
    """
    own = predictor.find(ArraySource(image), options)
    return own.detections, _low(predictor, image, options, floor, own.options.scales)


def low(predictor: Predictor, image: ImageArray, options: DetectOptions, floor: float) -> Detections:
    """Return what is found with scores down to ``floor``, at the scales that ``options`` give."""
    scales = options.scales or predictor.model.card.tiling.scales
    # Where the image decides the scales, boxes of low score would change them.
    chosen = predictor.find(ArraySource(image), options).options.scales if scales == "auto" else scales
    return _low(predictor, image, options, floor, chosen)


def _low(
    predictor: Predictor, image: ImageArray, options: DetectOptions, floor: float, scales: tuple[float, ...]
) -> Detections:
    settle = predictor.model.card.merge.settle if options.settle is None else options.settle
    update = {
        "confidence": floor,
        "max_detections": MOST_DETECTIONS,
        "scales": scales,
        "settle": max(settle, _SETTLES_PIECES_ONLY),
    }
    return predictor.predict(image, options.model_copy(update=update))
