"""Says how a model is asked for boxes of low score, which average precision needs."""

from detectors.geometry.arrays import ImageArray
from detectors.model.predict import Predictor
from detectors.tiling.sources import ArraySource
from schemas.events import DetectOptions

SCORE_FLOOR = 0.01
"""Average precision needs predictions of low score too; below this they are too many and change nothing."""
MOST_DETECTIONS = 20_000


def own_scales(predictor: Predictor, image: ImageArray, options: DetectOptions) -> tuple[float, ...]:
    """Return the scales of an image at the card's confidences; where the image decides them, low ones change them."""
    scales = options.scales or predictor.model.card.tiling.scales
    return predictor.find(ArraySource(image), options).options.scales if scales == "auto" else scales
