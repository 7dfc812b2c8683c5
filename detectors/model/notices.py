"""Says in plain words why the detections of a picture may not be trusted, and what to try."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.card.card import ModelCard
from detectors.geometry.arrays import Detections
from detectors.geometry.boxes import areas, longer_sides
from detectors.model.options import Resolved
from detectors.tiling.scales import scale_for_ground
from schemas.geometry import HIGHEST_PITCH_DEG

# From this share of a tile's shorter side on a box is as large as its tile, and of the frame as the frame.
_AS_LARGE = 0.75
# A notice about sizes needs this share of all detections; for boxes as large as tiles a box with the second share of
# the picture is enough.
_MOST, _OF_PICTURE = 0.5, 0.1
# More classes than these are not named, and no lower score than this is advised.
_MOST_CLASSES, _LEAST_ADVISED = 8, 0.05
# Scales to suggest for things that are too large or too small.
_SUGGESTED = (1.0, 0.5, 0.25, 2.0)


@dataclass(frozen=True, slots=True)
class Shown:
    """Holds what is known of the picture."""

    width: int
    height: int
    """Of the picture in pixels, as the width"""
    pitch_deg: float | None = None
    """Of the camera, -90 looks straight down; None where unknown"""
    sky: bool = False
    """Whether its upper part looks like sky"""


def notices(card: ModelCard, options: Resolved, found: Detections, shown: Shown) -> list[str]:
    """Return the warnings for a picture, none where nothing speaks against its detections.

    That a picture is not from above is known from the camera's pitch; without one it shows in sky, and in the sizes of
    what is found.
    """
    texts = [
        _not_from_above(card, shown),
        _ground_unknown_to_model(card, options),
        _as_large_as_tiles(options, found, shown) or _sizes_unknown_to_model(card, options, found),
        _not_tested(card, found),
    ]
    return [text for text in texts if text is not None]


def nothing_found(card: ModelCard, options: Resolved) -> str:
    """Return the line for a picture without detections: which scores would have counted, and what to try."""
    names: dict[float, list[str]] = {}
    for one, confidence in zip(card.classes, options.confidences, strict=True):
        names.setdefault(confidence, []).append(one.name)
    if len(names) == 1 or len(card.classes) > _MOST_CLASSES:
        least, most = min(names), max(names)
        scores = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}, by class"
    else:
        scores = ", ".join(f"{confidence:.4g} ({', '.join(named)})" for confidence, named in names.items())
    known, further = card.tiling.object_px, ""
    if known is not None and options.gsd_m is None and options.tile_width is not None and min(options.scales) > 0.25:
        further = f"; the model knows things of {known[0]:g} to {known[1]:g} px, --scales 0.5,0.25 finds larger ones"
    lower = min(options.confidences) / 2
    less = f"; --confidence {lower:.2g} shows less certain ones" if lower >= _LEAST_ADVISED else ""
    return f"nothing found with a score of at least {scores}{less}{further}"


def _not_from_above(card: ModelCard, shown: Shown) -> str | None:
    from_above = card.tiling.gsd_m is not None or any(one.max_size_m is not None for one in card.classes)
    if not from_above:
        return None
    if shown.pitch_deg is None:
        why = "perhaps not from above: the upper part of the picture looks like sky" if shown.sky else None
    elif shown.pitch_deg > HIGHEST_PITCH_DEG:
        why = f"not from above: the camera looked at {shown.pitch_deg:g}° (-90° is straight down)"
    else:
        why = None
    return why and (
        f"{why}, and the model knows things from above; near things are larger than far ones, "
        "so try --scales 1,0.5 or --mode whole, or a model for such pictures"
    )


def _ground_unknown_to_model(card: ModelCard, options: Resolved) -> str | None:
    known = card.tiling.gsd_m
    if known is None or options.gsd_m is None or options.tile_metres is not None:
        return None
    shown = [options.gsd_m / scale for scale in options.scales]
    if any(known[0] <= each <= known[1] for each in shown):
        return None
    what = "finer" if max(shown) < known[0] else "coarser"
    best = options.gsd_m / scale_for_ground(options.gsd_m, known)
    advice = "--scales auto, or another model" if known[0] <= best <= known[1] else "another model, or another --gsd"
    return (
        f"{options.gsd_m:.3g} m per pixel is {what} than the {known[0]:g} to {known[1]:g} m that the model knows; "
        f"try {advice}"
    )


def _as_large_as_tiles(options: Resolved, found: Detections, shown: Shown) -> str | None:
    """Return a warning where most boxes are as large as the tiles, which then show only parts of things."""
    if options.tile_width is None or options.tile_height is None or options.whole_frame or not len(found):
        return None
    scale = min(options.scales)
    sides = (options.tile_width / scale, options.tile_height / scale)
    if sides[0] >= shown.width and sides[1] >= shown.height:
        return None
    large = longer_sides(found.boxes) >= _AS_LARGE * min(*sides, shown.width, shown.height)
    filling = large & (areas(found.boxes) >= _OF_PICTURE * shown.width * shown.height)
    if large.sum() < _MOST * len(found) and not filling.any():
        return None
    return (
        f"{large.sum()} of {len(found)} boxes are as large as a tile ({sides[0]:.0f}×{sides[1]:.0f} px): things fill "
        "the picture, and tiles show only parts of them; try --mode whole, --whole or --scales 0.5"
    )


def _sizes_unknown_to_model(card: ModelCard, options: Resolved, found: Detections) -> str | None:
    known = card.tiling.object_px
    if known is None or not len(found) or options.tile_width is None:
        return None
    sides = longer_sides(found.boxes)
    # The card's range holds at the input's resolution; a box counts at the scale that suits it best.
    magnified = card.input.width / options.tile_width
    fits = np.zeros(len(found), np.bool_)
    for scale in options.scales:
        fits |= (sides * magnified * scale >= known[0]) & (sides * magnified * scale <= known[1])
    outside = int((~fits).sum())
    if outside <= _MOST * len(found):
        return None
    middle = float(np.median(sides[~fits])) * magnified
    better = next((each for each in _SUGGESTED if known[0] <= middle * each <= known[1]), None)
    what = "larger" if middle > known[1] else "smaller"
    scales = "" if better is None else f"--scales {better:g}, "
    return (
        f"{outside} of {len(found)} boxes are {what} than the {known[0]:g} to {known[1]:g} px that the model knows; "
        f"try {scales}{'--mode whole, ' if what == 'larger' else ''}or another model"
    )


def _not_tested(card: ModelCard, found: Detections) -> str | None:
    drawn = [
        one.name
        for index, one in enumerate(card.classes)
        if one.evidence == "drawn" and bool((found.classes == index).any())
    ]
    return f"not tested on photographs: {', '.join(drawn)}" if drawn else None
