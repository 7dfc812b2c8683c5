"""Compares an INT8 model with its f32 model: how much their boxes differ, and how fast both are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, ImageArray
from detectors.geometry.boxes import iou_matrix
from detectors.model.options import FrameView
from detectors.model.predict import Model
from detectors.tiling.tiles import TilePlan
from schemas.events import DetectOptions
from training.metrics import match

SAME_IOU = 0.5
"""From which overlap on two boxes of one class are the same."""

SCORE_TOLERANCE = 0.05
"""Rounding moves scores by hundredths, and boxes near the confidence over it to either side: that is no loss."""

_TURNS = 2


def boxes_of(model: Model, tiles: ImageArray) -> Candidates:
    """Return the boxes of ``model`` on ``tiles``, uint8 (N, height, width, 3) BGR.

    Scores go down to SCORE_TOLERANCE below the card's least confidence. Boxes are in pixels of the tile, duplicates
    within a tile removed. Raises InferenceError when the model fails.
    """
    card, count = model.card.input, len(tiles)
    whole = np.array([0, 0, card.width, card.height], np.int32)
    plan = TilePlan(
        frame_width=card.width,
        frame_height=card.height,
        input_width=card.width,
        input_height=card.height,
        pad=card.pad,
        boxes=np.tile(whole, (count, 1)),
        placed=np.tile(whole, (count, 1)),
        grids=np.ones(count, np.float32),
    )
    least = max(0.0, min(model.card.confidences) - SCORE_TOLERANCE)
    options = model.resolved(DetectOptions(confidence=least), FrameView(card.width, card.height))
    step = model.engine.batch_size
    return Candidates.concatenate(
        [model.candidates(model.infer(tiles[at : at + step]), plan, at, options) for at in range(0, count, step)]
    )


def is_sure(found: Candidates, confidences: Sequence[float], tolerance: float = 0.0) -> BoolArray:
    """Return bool (K,): whose score is at least that in ``confidences`` (one per class), less ``tolerance``."""
    sure: BoolArray = found.scores >= np.array(confidences)[found.classes] - tolerance
    return sure


def agreement(one: Candidates, other: Candidates, confidences: Sequence[float]) -> float:
    """Return the share of boxes of both (of the same tiles) that the other has too, 0..1; 1 if neither has any.

    Counted are boxes with a score of at least their class's in ``confidences``; the other has one when it has a box of
    the same tile and class that overlaps by SAME_IOU, with a score not more than SCORE_TOLERANCE below. Each box is
    matched once, the most confident first. But for the tolerance this is the F1 score of one with the other as truth.
    """
    counted = [each.take(is_sure(each, confidences)) for each in (one, other)]
    total = sum(map(len, counted))
    known = [each.take(is_sure(each, confidences, SCORE_TOLERANCE)) for each in (other, one)]
    return sum(map(_shared, counted, known)) / total if total else 1.0


def _shared(counted: Candidates, known: Candidates) -> int:
    """Return how many of ``counted`` are among ``known``."""
    shared = 0
    for tile, label in sorted(set(zip(counted.tiles.tolist(), counted.classes.tolist(), strict=True))):
        ours, theirs = (each.take((each.tiles == tile) & (each.classes == label)) for each in (counted, known))
        shared += int(match(iou_matrix(ours.boxes, theirs.boxes), ours.scores, (SAME_IOU,)).sum())
    return shared


def tiles_per_second(models: tuple[Model, Model], tiles: ImageArray, seconds: float) -> tuple[float, float]:
    """Measure how many ``tiles`` each of two models computes per second: the better of two turns."""
    best = [0.0, 0.0]
    for _ in range(_TURNS):
        for place, model in enumerate(models):
            best[place] = max(best[place], _rate(model, tiles, seconds))
    return best[0], best[1]


def _rate(model: Model, tiles: ImageArray, seconds: float) -> float:
    step = model.engine.batch_size
    batch = np.resize(tiles, (step, *tiles.shape[1:]))
    model.infer(batch)
    start = time.perf_counter()

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() - start < seconds:
            model.infer(batch)
            done += step
        return done

    with ThreadPoolExecutor(model.engine.parallel) as threads:
        done = sum(threads.map(work, range(model.engine.parallel)))
    return done / (time.perf_counter() - start)
