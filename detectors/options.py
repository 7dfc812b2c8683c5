"""What a frame is detected with: what it asks for, filled up from the model card and from what the frame shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from detectors.boxes import Metric
from detectors.card import ModelCard
from schemas.events import DetectOptions, MergeMethod
from schemas.geometry import CameraGeometry

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class FrameView:
    """How much a frame shows: width and height in pixels, and metres on the ground per pixel, None where unknown."""

    width: int
    height: int
    gsd_m: float | None = None

    @classmethod
    def of(cls, width: int, height: int, camera: CameraGeometry | None) -> FrameView:
        """The view of a frame of ``width`` × ``height`` pixels taken by ``camera``."""
        return cls(width, height, None if camera is None else camera.ground_sampling_distance_m(width))


@dataclass(frozen=True, slots=True)
class Resolved:
    """Options with nothing left open. Tile sides (frame pixels) are both None where the frame stays whole."""

    confidence: float
    overlap: float
    tile_width: int | None
    tile_height: int | None
    tile_metres: float | None
    whole_frame: bool
    merge_method: MergeMethod
    merge_metric: Metric
    merge_threshold: float
    max_detections: int

    def as_options(self) -> DetectOptions:
        """The same as it stands in events."""
        method = self.merge_method
        return DetectOptions(
            confidence=self.confidence,
            overlap=self.overlap,
            tile_width=self.tile_width,
            tile_height=self.tile_height,
            tile_metres=self.tile_metres,
            whole_frame=self.whole_frame,
            merge_method=method if method in ("nms", "greedy_nmm") else None,
            merge_metric=self.merge_metric,
            merge_threshold=self.merge_threshold,
            merging=method,
            max_detections=self.max_detections,
        )


def resolve(card: ModelCard, asked: DetectOptions, view: FrameView) -> Resolved:
    """What a frame of ``view`` that asks for ``asked`` is detected with; what it leaves open is up to ``card``."""
    tiling = card.tiling
    tiled = tiling.mode != "whole" or asked.tile_width is not None or asked.tile_height is not None
    width = asked.tile_width or tiling.width or card.input.width
    height = asked.tile_height or tiling.height or card.input.height
    return Resolved(
        confidence=_first(asked.confidence, card.thresholds.confidence),
        overlap=_first(asked.overlap, tiling.overlap),
        tile_width=width if tiled else None,
        tile_height=height if tiled else None,
        tile_metres=None,
        whole_frame=_first(asked.whole_frame, tiling.whole_frame or not tiled),
        merge_method=asked.merging or asked.merge_method or card.merge.method,
        merge_metric=asked.merge_metric or card.merge.metric,
        merge_threshold=_first(asked.merge_threshold, card.merge.threshold),
        max_detections=asked.max_detections or card.max_detections,
    )


def _first(asked: _Value | None, card: _Value) -> _Value:
    return card if asked is None else asked
