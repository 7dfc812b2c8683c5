"""Resolves the detection options of a frame: the requested ones, completed from the model card and the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from detectors.card.card import ModelCard
from detectors.geometry.boxes import Metric
from detectors.tiling.scales import COMPARED, scale_for_ground
from detectors.tiling.tile_sides import Sides, chosen_sides, sides_of_metres
from schemas.events import DetectOptions, MergeMethod
from schemas.geometry import CameraGeometry

_Value = TypeVar("_Value")
# The most metres that an event may have for a tile.
_MOST_METRES = 100_000.0
_NATIVE = (1.0,)


@dataclass(frozen=True, slots=True)
class FrameView:
    """Holds the size of a frame."""

    width: int
    height: int
    """In pixels, as the width."""
    gsd_m: float | None = None
    """Metres on the ground per pixel; None where unknown."""

    @classmethod
    def of(cls, width: int, height: int, camera: CameraGeometry | None) -> FrameView:
        """Return the view of a frame of ``width`` × ``height`` pixels that ``camera`` took."""
        return cls(width, height, None if camera is None else camera.ground_sampling_distance_m(width))


@dataclass(frozen=True, slots=True)
class Resolved:
    """Holds the options of a frame, all of them decided."""

    confidences: tuple[float, ...]
    """The least score of a detection, per class of the card."""
    overlap: float
    tile_width: int | None
    tile_height: int | None
    """In pixels of the frame, as the width; both are None where the frame is not cut."""
    tile_metres: float | None
    """The ground that a tile shows from left to right, where that decides its size; else None."""
    whole_frame: bool
    scales: tuple[float, ...]
    """At which the frame is cut, each into a grid of tiles that are 1 / scale as large."""
    undecided: bool
    """Whether a quick pass chooses among ``scales``."""
    iou: float
    """Boxes of one tile that overlap by more are one object."""
    merge_method: MergeMethod
    merge_metric: Metric
    merge_threshold: float
    settle: float
    """Boxes of different classes that overlap by more show one thing; 1 settles none."""
    max_detections: int
    min_box_px: float = 0.0
    """Smaller boxes are left out: their area in square pixels of the frame."""
    gsd_m: float | None = None
    """Metres on the ground per pixel of the frame; None where unknown."""

    @property
    def confidence(self) -> float | None:
        """Return the least score where it is one for all classes; None where classes have their own."""
        return self.confidences[0] if len(set(self.confidences)) == 1 else None

    @property
    def least_confidence(self) -> float:
        """Return the least score that a detection of any class may have."""
        return min(self.confidences)

    def as_options(self, prompt: str | None = None) -> DetectOptions:
        """Return the same options as they are in events, with the ``prompt`` that replaced that of the card."""
        return DetectOptions(
            prompt=prompt,
            confidence=self.confidence,
            iou=self.iou,
            mode="whole" if self.tile_width is None else None,
            overlap=self.overlap,
            tile_width=self.tile_width,
            tile_height=self.tile_height,
            tile_metres=self.tile_metres,
            whole_frame=self.whole_frame,
            scales="auto" if self.undecided else self.scales,
            merge_method=self.merge_method,
            merge_metric=self.merge_metric,
            merge_threshold=self.merge_threshold,
            settle=self.settle,
            max_detections=self.max_detections,
            min_box_px=self.min_box_px,
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a frame is cut: the sides of tiles (None: not at all), their overlap, the ground they show, and whether one
    more shows the whole frame."""

    sides: Sides | None
    overlap: float
    whole_frame: bool
    metres: float | None = None


def resolve(card: ModelCard, asked: DetectOptions, view: FrameView) -> Resolved:
    """Return the options for a frame of ``view`` that requests ``asked``; ``card`` decides what ``asked`` leaves open.

    The first of these that is given decides the size of tiles: the metres requested, where the ground sampling distance
    is known; the sides in pixels requested; the card's mode. A card's ``gsd`` without a known distance is ``fixed``.
    A requested confidence is that of all classes, also of those that have their own in the card.
    """
    given = asked.confidence
    cut = _cut(card, asked, view)
    scales, undecided = _scales(card, asked, view, cut)
    return Resolved(
        confidences=card.confidences if given is None else (given,) * len(card.classes),
        overlap=cut.overlap,
        tile_width=None if cut.sides is None else cut.sides[0],
        tile_height=None if cut.sides is None else cut.sides[1],
        tile_metres=cut.metres,
        whole_frame=cut.whole_frame,
        scales=scales,
        undecided=undecided,
        iou=_first(asked.iou, card.thresholds.iou),
        merge_method=asked.merge_method or card.merge.method,
        merge_metric=asked.merge_metric or card.merge.metric,
        merge_threshold=_first(asked.merge_threshold, card.merge.threshold),
        settle=_first(asked.settle, card.merge.settle),
        max_detections=asked.max_detections or card.max_detections,
        min_box_px=_first(asked.min_box_px, card.thresholds.min_box_px),
        gsd_m=view.gsd_m,
    )


def _cut(card: ModelCard, asked: DetectOptions, view: FrameView) -> _Cut:
    tiling = card.tiling
    mode = asked.mode or tiling.mode
    overlap = _first(asked.overlap, tiling.overlap)
    whole_frame = _first(asked.whole_frame, tiling.whole_frame)
    named = asked.mode != "whole" and (asked.tile_width is not None or asked.tile_height is not None)
    by_card = tiling.metres if mode == "gsd" and not named else None
    metres = _first(asked.tile_metres, by_card)
    if metres is not None and view.gsd_m is not None and asked.mode != "whole":
        sides, shown = sides_of_metres(metres, view.gsd_m, (card.input.width, card.input.height))
        return _Cut(sides, overlap, whole_frame, min(shown, _MOST_METRES))
    fixed = (tiling.width or card.input.width, tiling.height or card.input.height)
    if mode == "whole" and not named:
        return _Cut(None, overlap, _first(asked.whole_frame, True))
    if mode == "auto" and not named:
        return _automatic(card, asked, view, fixed)
    return _Cut((asked.tile_width or fixed[0], asked.tile_height or fixed[1]), overlap, whole_frame)


def _scales(card: ModelCard, asked: DetectOptions, view: FrameView, cut: _Cut) -> tuple[tuple[float, ...], bool]:
    """Return the scales at which a frame is cut, and whether a quick pass chooses among them.

    ``auto`` is scale 1 where the ground decides the size of tiles already, and where the frame is not cut.
    """
    wanted = asked.scales or card.tiling.scales
    if cut.sides is None:
        return _NATIVE, False
    if wanted != "auto":
        return wanted, False
    if cut.metres is not None:
        return _NATIVE, False
    if view.gsd_m is not None and card.tiling.gsd_m is not None:
        return (scale_for_ground(view.gsd_m, card.tiling.gsd_m),), False
    return COMPARED, True


def _automatic(card: ModelCard, asked: DetectOptions, view: FrameView, fixed: Sides) -> _Cut:
    """Return what ``mode: auto`` chooses; a requested overlap or whole-frame pass is kept."""
    largest_m = [one.max_size_m for one in card.classes if one.max_size_m is not None]
    objects = () if view.gsd_m is None else tuple(metres / view.gsd_m for metres in largest_m)
    chosen = chosen_sides(
        (view.width, view.height),
        fixed,
        (card.input.width, card.input.height),
        objects,
        _first(asked.overlap, card.tiling.overlap),
    )
    if chosen.sides is None:
        return _Cut(None, _first(asked.overlap, chosen.overlap), True)
    whole_frame = _first(asked.whole_frame, card.tiling.whole_frame or chosen.whole_frame)
    return _Cut(chosen.sides, _first(asked.overlap, chosen.overlap), whole_frame)


def _first(asked: _Value | None, card: _Value) -> _Value:
    return card if asked is None else asked
