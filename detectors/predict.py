"""A model ready to use: its steps one by one for whoever pipelines them, and all of them for one picture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from detectors import tiling
from detectors.arrays import Candidates, Detections, ImageArray, Outputs
from detectors.card import ModelCard, Precision, default_card_path, read_card, verified_model_file
from detectors.engines.choose import EngineKind, available_threads, load_engine
from detectors.engines.port import Engine, EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from detectors.fragments import resolve_fragments
from detectors.heads import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, objection
from detectors.heads.port import Head, HeadRequest
from detectors.merging import merge, suppress_within_tiles
from detectors.onnx_file import read_onnx_file
from detectors.tiling import TilePlan, TileSpec
from schemas.events import DetectOptions

__all__ = ["Candidates", "DetectOptions", "Detections", "Model", "ModelCard", "Predictor", "TilePlan"]

_Value = TypeVar("_Value")

# More answers than this from one tile are noise; the best are kept, so that memory stays bounded at any threshold.
MAX_CANDIDATES_PER_TILE = 3000


class Model:
    """A loaded model. All methods may be called from several threads at once; none keeps anything."""

    def __init__(self, card: ModelCard, engine: Engine, head: Head) -> None:
        self.card = card
        self.engine = engine
        self._head = head

    @classmethod
    def load(
        cls,
        card_path: Path | None = None,
        engine: EngineKind = "auto",
        threads: int = 0,
        precision: Precision | None = None,
    ) -> Model:
        """The model at ``card_path`` (default: the one that ships), checked with a first run.

        threads: of the engine; 0 takes all this process may use. precision: None takes the card's. Raises
        ModelLoadError when card, file, engine and outputs do not fit together.
        """
        path = card_path or default_card_path()
        card = read_card(path)
        file = verified_model_file(card, path)
        request = EngineRequest(file, card.input, threads or available_threads(), precision or card.precision)
        loaded = load_engine(engine, request)
        try:
            return cls(card, loaded, _checked_head(card, loaded, file))
        except BaseException:
            loaded.close()
            raise

    def resolved_options(self, options: DetectOptions) -> DetectOptions:
        """``options`` with every field the caller left open taken from the card.

        Tile sides stay None where the card wants the frame as a whole and the caller asked for no tiles.
        """
        card = self.card
        tiled = card.tiling.mode == "fixed" or options.tile_width is not None or options.tile_height is not None
        width = options.tile_width or card.tiling.width or card.input.width
        height = options.tile_height or card.tiling.height or card.input.height
        defaults = DetectOptions(
            confidence=card.thresholds.confidence,
            overlap=card.tiling.overlap,
            tile_width=width if tiled else None,
            tile_height=height if tiled else None,
            whole_frame=card.tiling.whole_frame or not tiled,
            merge_method=card.merge.method,
            merge_metric=card.merge.metric,
            merge_threshold=card.merge.threshold,
            max_detections=card.max_detections,
        )
        return defaults.model_copy(update=options.model_dump(exclude_none=True))

    def plan(self, height: int, width: int, options: DetectOptions) -> TilePlan:
        """Where a frame of ``height`` × ``width`` pixels is cut."""
        full, card = self.resolved_options(options), self.card.input
        spec = TileSpec(
            input_width=card.width,
            input_height=card.height,
            tile_width=full.tile_width,
            tile_height=full.tile_height,
            overlap=_given(full.overlap),
            whole_frame=_given(full.whole_frame),
            anchor=card.letterbox,
            pad=card.pad,
        )
        return tiling.plan_tiles(width, height, spec)

    def cut(self, image: ImageArray, plan: TilePlan, first: int = 0, count: int | None = None) -> ImageArray:
        """``count`` tiles from ``first`` on (default all) of ``image`` (uint8 (h, w, 3) BGR), ready for ``infer``."""
        return tiling.cut(image, plan, first, count)

    def infer(self, tiles: ImageArray) -> Outputs:
        """The model's outputs for ``tiles`` (uint8 (N, H, W, 3) BGR); raises InferenceError when the engine fails."""
        return self.engine.run(tiles)

    def candidates(self, outputs: Outputs, plan: TilePlan, first: int, options: DetectOptions) -> Candidates:
        """What ``outputs`` (of tiles ``first``, ``first + 1``, … of ``plan``) show, duplicates within a tile removed.

        Raises InferenceError when the outputs are not numbers.
        """
        full = self.resolved_options(options)
        raw = self._head.decode(outputs, _given(full.confidence))
        tiles = raw.tiles + np.int32(first)
        boxes = tiling.to_frame(plan, raw.boxes, tiles)
        cut_off = tiling.touches_inner_edge(plan, boxes, tiles)
        found = _best_per_tile(Candidates(boxes, raw.scores, raw.classes, tiles, cut_off))
        return suppress_within_tiles(found, self.card.thresholds.iou, self.card.merge.class_aware)

    def merge(self, candidates: Candidates, plan: TilePlan, options: DetectOptions) -> Detections:
        """The detections of a frame from the candidates of all its tiles, in any order."""
        full, class_aware = self.resolved_options(options), self.card.merge.class_aware
        whole = resolve_fragments(candidates, plan, class_aware)
        merged = merge(
            whole, _given(full.merge_method), _given(full.merge_metric), _given(full.merge_threshold), class_aware
        )
        best = merged.take(np.arange(min(len(merged), _given(full.max_detections))))
        return Detections(best.boxes, best.scores, best.classes)

    def close(self) -> None:
        """Give the engine's threads and memory back; no other call may be under way or follow."""
        self.engine.close()


class Predictor:
    """Finds things in one picture after the other, using all the engine's parallelism for each."""

    def __init__(self, model: Model) -> None:
        self.model = model
        # One thread more than the engine takes, so that tiles are cut and outputs are read while it runs.
        self._threads = ThreadPoolExecutor(model.engine.parallel + 1, thread_name_prefix="predict")

    @classmethod
    def load(
        cls,
        card_path: Path | None = None,
        engine: EngineKind = "auto",
        threads: int = 0,
        precision: Precision | None = None,
    ) -> Self:
        """See :meth:`Model.load`."""
        return cls(Model.load(card_path, engine, threads, precision))

    def predict(
        self,
        image: ImageArray,
        options: DetectOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """What ``image`` (uint8 (h, w, 3) BGR) shows. ``progress`` is called with tiles done and tiles in all.

        Raises InferenceError when the model fails on it.
        """
        model, wanted = self.model, options or DetectOptions()
        plan = model.plan(image.shape[0], image.shape[1], wanted)
        step = model.engine.batch_size

        def run(first: int) -> Candidates:
            outputs = model.infer(model.cut(image, plan, first, step))
            return model.candidates(outputs, plan, first, wanted)

        parts: list[Candidates] = []
        for part in self._threads.map(run, range(0, len(plan), step)):
            parts.append(part)
            if progress is not None:
                progress(min(len(parts) * step, len(plan)), len(plan))
        return model.merge(Candidates.concatenate(parts), plan, wanted)

    def close(self) -> None:
        """Give threads and memory back."""
        self._threads.shutdown(cancel_futures=True)
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _given(value: _Value | None) -> _Value:
    """``value`` of a field that :meth:`Model.resolved_options` has filled."""
    if value is None:
        raise ValueError("an option was not resolved against the card")
    return value


def _best_per_tile(candidates: Candidates) -> Candidates:
    """``candidates`` (in tile order) without those beyond the best MAX_CANDIDATES_PER_TILE of a tile."""
    if len(candidates) <= MAX_CANDIDATES_PER_TILE:
        return candidates
    order = np.lexsort((-candidates.scores, candidates.tiles))
    tiles = candidates.tiles[order]
    place = np.arange(len(order)) - np.searchsorted(tiles, tiles)
    return candidates.take(np.sort(order[place < MAX_CANDIDATES_PER_TILE]))


def _checked_head(card: ModelCard, engine: Engine, file: Path) -> Head:
    """The head that reads ``engine``'s outputs, found by a run on a blank and a noise tile.

    Raises ModelLoadError when shapes, numbers or scores are not those of the card's layout.
    """
    about, size = read_onnx_file(file), (card.input.width, card.input.height)
    try:
        outputs = engine.run(first_tiles(*size, card.input.pad))
    except InferenceError as error:
        raise ModelLoadError(f"{card.name} {card.version} failed its first run: {error}") from error
    classes = ClassNumbers(len(card.classes), card.class_ids)
    request = HeadRequest(*size, classes, tuple(one.name for one in about.outputs))
    head = choose_head(card.layout, request, [output.shape for output in outputs], about.metadata)
    against = objection(head, outputs, size)
    if against is not None:
        raise ModelLoadError(f"{card.name} {card.version} failed its first run: {against}")
    return head
