"""Runs a loaded model: each step alone for a pipeline, and all steps for one picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from detectors.card.card import ModelCard
from detectors.engines.port import Engine
from detectors.geometry.arrays import Candidates, Detections, FloatArray, ImageArray, Outputs, RawBoxes
from detectors.geometry.rotated_boxes import enclosing
from detectors.heads.port import Head
from detectors.merging.merge import merge, suppress_within_tiles
from detectors.merging.pieces import resolve_pieces
from detectors.merging.settling import settle_classes, without_fragments
from detectors.merging.sizes import largest_px, sorted_by_size, with_area
from detectors.model.options import FrameView, Resolved, resolve
from detectors.model.passes import Passes, ScaleTiles
from detectors.rules.rules_file import RulesFile
from detectors.tiling import tiles as tiling
from detectors.tiling.sources import ArraySource, TileBatch, TileSource
from detectors.tiling.tiles import TilePlan, TileSpec
from schemas.events import DetectOptions

# More candidates than this from one tile are noise; the best are kept, so that memory is limited at any threshold.
MAX_CANDIDATES_PER_TILE = 3000


class Model:
    """Runs the steps of a loaded model. All methods may be called from several threads at once; none keeps state."""

    def __init__(
        self,
        card: ModelCard,
        engine: Engine,
        head: Head,
        least_confidence: float | None = None,
        rules: RulesFile | None = None,
    ) -> None:
        """``least_confidence``: the score below which the NMS inside the model leaves boxes out, where it is known.

        ``rules``: those in the card, for what applies rules; the model itself does not.
        """
        self.card = card
        self.rules = rules
        self.engine = engine
        self.least_confidence = least_confidence
        self._head = head

    def resolved(self, asked: DetectOptions, view: FrameView) -> Resolved:
        """See :func:`detectors.model.options.resolve`."""
        return resolve(self.card, asked, view)

    def plan(self, view: FrameView, options: Resolved) -> TilePlan:
        """Return the tiles into which a frame of ``view`` is cut."""
        card = self.card.input
        spec = TileSpec(
            input_width=card.width,
            input_height=card.height,
            tile_width=options.tile_width,
            tile_height=options.tile_height,
            overlap=options.overlap,
            whole_frame=options.whole_frame,
            anchor=card.letterbox,
            pad=card.pad,
            scales=options.scales,
        )
        return tiling.plan_tiles(view.width, view.height, spec)

    def passes(self, view: FrameView, options: Resolved) -> Passes:
        """Return the passes over the tiles of a frame of ``view``; its scales are decided when they are done."""
        plan = self.plan(view, options)
        return Passes(plan, options, lambda found, wanted: self._merged(found, plan, wanted)[0])

    def cut(self, image: ImageArray, plan: TilePlan, first: int = 0, count: int | None = None) -> ImageArray:
        """Cut ``count`` tiles from ``first`` on (default all) of ``image`` (uint8 (h, w, 3) BGR), for ``infer``."""
        return tiling.cut(image, plan, first, count)

    def infer(self, tiles: ImageArray) -> Outputs:
        """Return the outputs for ``tiles`` (uint8 (N, H, W, 3) BGR). Raises InferenceError when the engine fails."""
        return self.engine.run(tiles)

    def candidates(self, outputs: Outputs, plan: TilePlan, first: int, options: Resolved) -> Candidates:
        """Return the candidates in ``outputs`` (of tiles ``first``, ``first + 1``, … of ``plan``).

        Duplicates within a tile are removed. Boxes larger than their class allows are left out before that, so that
        they do not suppress right ones.
        Raises InferenceError when the outputs are not numbers.
        """
        raw = _sure(self._head.decode(outputs, options.least_confidence), options)
        tiles = raw.tiles + np.int32(first)
        boxes = tiling.to_frame(plan, raw.boxes, tiles)
        cut_off = tiling.touches_inner_edge(plan, boxes, tiles)
        quads = None if raw.quads is None else tiling.quads_to_frame(plan, raw.quads, tiles)
        found = Candidates(boxes, raw.scores, raw.classes, tiles, cut_off, quads)
        found, large = sorted_by_size(found, largest_px(self.card.classes, options.gsd_m))
        left_out = 0 if large is None else len(self._suppressed(large, options))
        return replace(self._suppressed(found, options), too_large=left_out)

    def _suppressed(self, found: Candidates, options: Resolved) -> Candidates:
        return suppress_within_tiles(_best_per_tile(found), options.iou, self.card.merge.class_aware)

    def merge(self, candidates: Candidates, plan: TilePlan, options: Resolved) -> Detections:
        """Return the detections of a frame from the candidates of all its tiles, in any order."""
        merged, too_large = self._merged(candidates, plan, options)
        # When all is merged: pieces of an object are smaller than the object.
        merged = with_area(merged, options.min_box_px)
        best = merged.take(np.arange(min(len(merged), options.max_detections)))
        boxes = best.boxes if best.quads is None else _enclosing_within(plan, best.quads)
        return Detections(boxes, best.scores, best.classes, best.quads, candidates.too_large + too_large)

    def _merged(self, candidates: Candidates, plan: TilePlan, options: Resolved) -> tuple[Candidates, int]:
        """Return the merged boxes, best first, and how many joined boxes were left out as too large."""
        class_aware = self.card.merge.class_aware
        limits = largest_px(self.card.classes, options.gsd_m)
        settles = options.settle < 1
        found = without_fragments(candidates, plan) if settles else candidates
        # Sizes are checked again, because joined boxes are larger, and before anything is suppressed.
        whole, large = sorted_by_size(resolve_pieces(found, plan, class_aware), limits)
        merged = merge(whole, options.merge_method, options.merge_metric, options.merge_threshold, class_aware, limits)
        if settles:
            merged = settle_classes(merged, options.settle)
        return merged, 0 if large is None else len(large)

    def close(self) -> None:
        """Release the engine's threads and memory; no other call may be in progress or follow."""
        self.engine.close()


@dataclass(frozen=True, slots=True, eq=False)
class PictureResult:
    """Holds the detections of one picture, and how they were found."""

    detections: Detections
    options: Resolved
    tiles: int
    """Number of tiles into which the picture was cut; of a quick pass only those that were processed."""
    empty: int
    """Number of tiles that were left out because they show nothing."""
    by_scale: tuple[ScaleTiles, ...] = ()
    """How many of ``tiles`` each scale has."""
    least_confidence: float | None = None
    """The score below which the NMS inside the model left boxes out, where it is known."""


class Predictor:
    """Detects objects in one picture after the other, with all parallel runs of the engine for each."""

    def __init__(self, model: Model) -> None:
        self.model = model
        # One thread more than the engine takes, so that tiles are cut and outputs are read while it runs.
        threads = model.engine.parallel + 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        # So many that one slow batch does not stop the others.
        self._ahead = threads + 1

    def predict(
        self,
        image: ImageArray,
        options: DetectOptions | None = None,
        gsd_m: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """Return the detections of ``image`` (uint8 (h, w, 3) BGR); see ``find``."""
        return self.find(ArraySource(image), options, gsd_m, progress).detections

    def find(
        self,
        source: TileSource,
        options: DetectOptions | None = None,
        gsd_m: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> PictureResult:
        """Detect objects in the picture of ``source``; ``gsd_m``: metres on the ground per pixel, where known.

        ``progress`` is called with tiles done and tiles in all. Raises InferenceError when the model fails on it,
        TooManyTilesError when it would be cut into too many tiles.
        """
        model, view = self.model, FrameView(source.width, source.height, gsd_m)
        passes = model.passes(view, model.resolved(options or DetectOptions(), view))
        seen, done, total = 0, 0, len(passes.plan)
        while (part := passes.part) is not None:
            before, parts = done, []
            for batch, found in self._in_order(source, part, passes.options):
                parts += found
                seen += len(batch.numbers)
                done = before + batch.passed
                if progress is not None:
                    progress(done, total)
            done = before + len(part)
            passes.add(Candidates.concatenate(parts))
        if progress is not None:
            progress(total, total)
        detections = model.merge(passes.found, passes.plan, passes.options)
        least = self.model.least_confidence
        return PictureResult(detections, passes.options, done, done - seen, passes.tiles_by_scale(), least)

    def _in_order(
        self, source: TileSource, plan: TilePlan, options: Resolved
    ) -> Iterator[tuple[TileBatch, list[Candidates]]]:
        """Yield each batch with its candidates, in order; few are in progress, so few are in memory."""
        model = self.model

        def work(batch: TileBatch) -> list[Candidates]:
            outputs = model.infer(batch.cut())
            return [
                model.candidates(tuple(output[begin : begin + count] for output in outputs), plan, first, options)
                for begin, first, count in batch.runs()
            ]

        waiting: deque[tuple[TileBatch, Future[list[Candidates]]]] = deque()
        with closing(source.batches(plan, model.engine.batch_size)) as batches:
            try:
                for batch in batches:
                    waiting.append((batch, self._threads.submit(work, batch)))
                    if len(waiting) > self._ahead:
                        done, found = waiting.popleft()
                        yield done, found.result()
                while waiting:
                    done, found = waiting.popleft()
                    yield done, found.result()
            finally:
                for _, found in waiting:
                    found.cancel()

    def close(self) -> None:
        """Release threads and memory."""
        self._threads.shutdown(cancel_futures=True)
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _enclosing_within(plan: TilePlan, quads: FloatArray) -> FloatArray:
    """float32 (K, 4) xyxy: what encloses ``quads`` (float32 (K, 4, 2), frame pixels) within the frame."""
    extent = np.array((plan.frame_width, plan.frame_height) * 2, np.float32)
    boxes: FloatArray = np.clip(enclosing(quads), 0.0, extent)
    return boxes


def _sure(raw: RawBoxes, options: Resolved) -> RawBoxes:
    """Return the boxes of ``raw`` with a score that is enough for their class."""
    if options.confidence is not None:
        return raw
    kept = raw.scores >= np.array(options.confidences, np.float32)[raw.classes]
    quads = None if raw.quads is None else raw.quads[kept]
    return RawBoxes(raw.boxes[kept], raw.scores[kept], raw.classes[kept], raw.tiles[kept], quads)


def _best_per_tile(candidates: Candidates) -> Candidates:
    """``candidates`` (in tile order) without those beyond the best MAX_CANDIDATES_PER_TILE of a tile."""
    if len(candidates) <= MAX_CANDIDATES_PER_TILE:
        return candidates
    order = np.lexsort((-candidates.scores, candidates.tiles))
    tiles = candidates.tiles[order]
    place = np.arange(len(order)) - np.searchsorted(tiles, tiles)
    return candidates.take(np.sort(order[place < MAX_CANDIDATES_PER_TILE]))
