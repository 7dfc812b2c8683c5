"""Measures how long merging takes for tens of thousands of boxes, how that grows, and plain methods for comparison."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np

from bench.measure import Compared
from bench.processes import BenchError
from bench.result import RATIO, Figure, Goal, Result
from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, IndexArray
from detectors.geometry.boxes import iou_matrix, overlaps
from detectors.geometry.rotated_boxes import corners_of
from detectors.merging.merge import merge, ranking
from schemas.events import MergeMethod

_NMS, _NMM, _TURNED, _MATRIX = 33_000, 20_000, 10_000, 4_000
_THRESHOLD = 0.5
_FRAME = np.array([4000.0, 3000.0])
_FULL = 33_000
"""How many boxes the frame above has; with more or fewer it is as much larger or smaller, so that it is as crowded."""
_PER_OBJECT = 40
_CLUTTER = 0.2
_NOTE = (
    f"Crowded: what a detector finds in a 4000×3000 frame at a confidence near 0, {_FULL:,} boxes: about "
    f"{_FULL // _PER_OBJECT} objects of 16 to 128 pixels with some {_PER_OBJECT} boxes each (off by 8 % of the size, "
    f"12 % in size, the further off the lower the score), and {_CLUTTER:.0%} clutter of 8 to 200 pixels with scores "
    "below 0.05. Sparse: boxes of 8 to 20 pixels all over the frame, few of which overlap. Other numbers of boxes have "
    f"a frame in proportion. IoU above {_THRESHOLD} merges, three classes that never meet. One thread; medians. "
    "The plain loop compares the best box with all that are left, in numpy, then the next; the matrix all with "
    "all first; both keep the very same boxes, which is checked. Memory is the peak of what was allocated."
)


def run(quick: bool) -> Result:
    """Measure all methods; quick: fewer rounds."""
    rounds = 2 if quick else 7
    full, matrix = crowded(_NMS), crowded(_MATRIX)
    loop = _compared(full, _plain_loop, rounds)
    table = _compared(matrix, _plain_matrix, rounds)
    figures = [
        Figure(f"NMS, {_NMS:,} crowded", 1000 / loop.our_rate, "ms", Goal(100, "below")),
        Figure(f"NMS, {_NMS:,} sparse", _ms(sparse(_NMS), "nms", rounds), "ms"),
        Figure(f"greedy NMM, {_NMM:,} crowded", _ms(crowded(_NMM), "greedy_nmm", rounds), "ms", Goal(1000, "below")),
        Figure(f"NMM, {_NMM:,} crowded", _ms(crowded(_NMM), "nmm", rounds), "ms"),
        Figure(f"weighted box fusion, {_NMM:,} crowded", _ms(crowded(_NMM), "wbf", rounds), "ms"),
        Figure(f"NMS, {_TURNED:,} crowded, rotated", _ms(turned(_TURNED), "nms", rounds), "ms"),
        Figure(f"NMS over a plain loop, {_NMS:,} crowded", loop.ratio, RATIO),
        Figure(f"NMS over a matrix, {_MATRIX:,} crowded", table.ratio, RATIO),
        *_growth(full, rounds),
    ]
    return Result("merging", "Merging tens of thousands of boxes", tuple(figures), (_NOTE,))


def _growth(full: Candidates, rounds: int) -> list[Figure]:
    """Measure how much more time and memory four times as many boxes take."""
    more = crowded(4 * len(full))
    times = median(_seconds(more, "nms") / _seconds(full, "nms") for _ in range(rounds))
    peak, peak_of_more = _peak_mb(full, "nms"), _peak_mb(more, "nms")
    heap = _peak_mb(on_one_spot(_NMM), "nms")
    return [
        Figure("NMS, four times the boxes: time", times, RATIO),
        Figure(f"NMS, {len(full):,} crowded: peak memory", peak, "MB"),
        Figure("NMS, four times the boxes: peak memory", peak_of_more / peak, RATIO, Goal(5.0, "below")),
        Figure(f"NMS, {_NMM:,} boxes on one spot: peak memory", heap, "MB"),
    ]


def crowded(count: int) -> Candidates:
    """Return ``count`` boxes, most of them around the same few objects."""
    rng = np.random.default_rng(count)
    frame = _FRAME * np.sqrt(count / _FULL)
    objects = max(1, count // _PER_OBJECT)
    which = rng.integers(0, objects, count)
    ratio = np.exp(rng.uniform(-0.7, 0.7, objects))
    size = np.exp(rng.uniform(np.log(16), np.log(128), objects))
    sides = np.stack((size * np.sqrt(ratio), size / np.sqrt(ratio)), axis=1)[which]
    off = rng.normal(size=(count, 4))
    centres = rng.uniform(0, frame, (objects, 2))[which] + 0.08 * off[:, :2] * sides
    sides = sides * np.exp(0.12 * off[:, 2:])
    scores = rng.uniform(0.1, 0.95, objects)[which] * np.exp(-(off**2).sum(axis=1) / 4)
    clutter = rng.random(count) < _CLUTTER
    noise = int(clutter.sum())
    centres[clutter] = rng.uniform(0, frame, (noise, 2))
    sides[clutter] = np.exp(rng.uniform(np.log(8), np.log(200), (noise, 2)))
    scores[clutter] = rng.uniform(0, 0.05, noise)
    return _candidates(centres, sides, scores, rng.integers(0, 3, objects)[which])


def sparse(count: int) -> Candidates:
    """Return ``count`` small boxes all over the frame."""
    rng = np.random.default_rng(count)
    centres = rng.uniform(0, _FRAME * np.sqrt(count / _FULL), (count, 2))
    return _candidates(centres, rng.uniform(8, 20, (count, 2)), rng.random(count), rng.integers(0, 3, count))


def on_one_spot(count: int) -> Candidates:
    """Return the same box ``count`` times: no method may list all pairs."""
    return _candidates(
        np.full((count, 2), 100.0), np.full((count, 2), 30.0), np.linspace(1, 0.1, count), np.zeros(count, np.int64)
    )


def turned(count: int) -> Candidates:
    """Return the crowd of boxes, each object and its boxes turned."""
    upright = crowded(count)
    boxes = upright.boxes
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    # The direction follows from the place, so that the boxes around one object have about the same direction.
    around = np.random.default_rng(count).normal(0, 0.05, count)
    angles = np.sin(centres[:, 0] / 300) + np.cos(centres[:, 1] / 200) + around
    quads = corners_of(centres.astype(np.float32), sides, angles.astype(np.float32))
    outer = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1)
    return Candidates(outer, upright.scores, upright.classes, upright.tiles, upright.cut, quads)


def _candidates(centres: DoubleArray, sides: DoubleArray, scores: DoubleArray, classes: IndexArray) -> Candidates:
    boxes = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    tiles = (np.maximum(centres // 512, 0) @ [1, 64]).astype(np.int32)
    return Candidates(boxes, scores.astype(np.float32), classes.astype(np.int32), tiles, np.zeros(len(boxes), np.bool_))


def _merge(candidates: Candidates, method: MergeMethod) -> Candidates:
    return merge(candidates, method, "iou", _THRESHOLD, class_aware=True)


def _seconds(candidates: Candidates, method: MergeMethod) -> float:
    start = time.perf_counter()
    _merge(candidates, method)
    return time.perf_counter() - start


def _ms(candidates: Candidates, method: MergeMethod, rounds: int) -> float:
    _merge(candidates, method)
    return 1000 * median(_seconds(candidates, method) for _ in range(rounds))


def _peak_mb(candidates: Candidates, method: MergeMethod) -> float:
    tracemalloc.start()
    try:
        _merge(candidates, method)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def _compared(candidates: Candidates, plain: Callable[[Candidates], IndexArray], rounds: int) -> Compared:
    """Run ours and a plain method in turns; both must keep the same boxes."""
    if _merge(candidates, "nms").boxes.tolist() != candidates.boxes[plain(candidates)].tolist():
        raise BenchError(f"{plain.__name__} keeps other boxes than merge does; one of them is wrong")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        plain(candidates)
        theirs.append(1 / (time.perf_counter() - start))
        ours.append(1 / _seconds(candidates, "nms"))
    return Compared(tuple(ours), tuple(theirs))


def _plain_loop(candidates: Candidates) -> IndexArray:
    """Suppress as most programs do: the best box against all that are left, then the next."""
    boxes, classes = candidates.boxes.astype(np.float64), candidates.classes
    left = ranking(candidates)
    kept: list[int] = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        gone = (overlaps(boxes[best], boxes[left], "iou") > _THRESHOLD) & (classes[left] == classes[best])
        left = left[~gone]
    return np.array(kept)


def _plain_matrix(candidates: Candidates) -> IndexArray:
    """Suppress with the table of all pairs."""
    order = ranking(candidates)
    boxes, classes = candidates.boxes[order].astype(np.float64), candidates.classes[order]
    match: BoolArray = (iou_matrix(boxes, boxes) > _THRESHOLD) & (classes[:, None] == classes)
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for place in range(len(order)):
        if alive[place]:
            kept.append(place)
            alive &= ~match[place]
    return order[kept]
