"""Chooses how large tiles are: by the ground they show, or by the sizes of frame and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectors.tiling.tiles import EDGE_MARGIN_OF_SIDE

Sides = tuple[int, int]
"""Width and height, pixels of the frame."""

SHORTEST_SIDE, LONGEST_SIDE = 64, 8192
# A frame that is larger than a tile by no more than this is processed as a whole: one tile instead of four.
WHOLE_UP_TO = 1.25
# The size of an object in the model's input, in pixels, from which small-object detectors find it reliably.
VISIBLE_INPUT_PX = 10.0
# Classes state the size of their largest object; a common object is assumed to have this share of it.
COMMON_OF_LARGEST = 0.5
# Magnifying adds no information: beyond this it only costs tiles.
MOST_MAGNIFIED = 2.0
# The overlaps that the largest object should fit into. More than the second costs over four times the tiles of none.
LEAST_OVERLAP, MOST_OVERLAP = 0.2, 0.5


@dataclass(frozen=True, slots=True)
class TileSides:
    """Holds what ``chosen_sides`` chose. sides None: only the frame as a whole is processed."""

    sides: Sides | None
    overlap: float
    whole_frame: bool


def sides_of_metres(metres: float, gsd_m: float, input_size: Sides) -> tuple[Sides, float]:
    """Return the sides of tiles that show ``metres`` of ground from left to right, and the metres they really show.

    Width = metres / ground sampling distance (``gsd_m``, metres per pixel of the frame); the height follows from the
    shape of ``input_size``. Sides are bounded to 64 to 8192 pixels, in the input's shape where possible; then the
    second value is what the bounded width shows, else ``metres``.
    """
    shape = input_size[1] / input_size[0]
    wanted = metres / gsd_m
    low, high = max(SHORTEST_SIDE, SHORTEST_SIDE / shape), min(LONGEST_SIDE, LONGEST_SIDE / shape)
    width = round(max(low, min(high, wanted)))
    sides = _bounded(width, width * shape)
    return sides, metres if round(wanted) == sides[0] else sides[0] * gsd_m


def chosen_sides(frame: Sides, fixed: Sides, input_size: Sides, objects: Sequence[float], overlap: float) -> TileSides:
    """Return the sides of tiles for a frame when neither the frame nor the card gives them.

    frame: pixels; fixed: the sides that tiles have without further knowledge (the model's native resolution); objects:
    per class the longer side of its largest object in pixels of the frame, empty where unknown; overlap: the card's, 0
    to 0.9.

    1. Tiles begin with the fixed sides, and keep their shape.
    2. Where a common object of the smallest class (half its largest) has less than 10 pixels in the model's input,
       tiles are smaller, so that it is magnified to that, at most twice. Classes that would not reach it even then do
       not count.
    3. Where the largest object does not fit into the overlap (a fifth at least), so that some tile shows it whole,
       tiles are larger, up to where the smallest class would fall below 10 pixels, or to the whole frame. Then the
       overlap grows, up to 0.5. For what does not fit even then, a whole-frame pass is added.
    4. A frame that exceeds such a tile by at most a quarter on either axis is processed as a whole.
    """
    shrunk = max(fixed[0] / input_size[0], fixed[1] / input_size[1])
    visible = [each for each in objects if each * COMMON_OF_LARGEST * MOST_MAGNIFIED / shrunk >= VISIBLE_INPUT_PX]
    largest = max(objects, default=0.0) * (1 + 2 * EDGE_MARGIN_OF_SIDE)
    everything = max(frame[0] / fixed[0], frame[1] / fixed[1])
    grown = max(1.0, min(everything, largest / (max(overlap, LEAST_OVERLAP) * min(fixed))))
    if visible:
        limit = min(visible) * COMMON_OF_LARGEST / (VISIBLE_INPUT_PX * shrunk)
        grown = min(grown, max(limit, 1 / MOST_MAGNIFIED))
    sides = _bounded(fixed[0] * grown, fixed[1] * grown)
    needed = largest / min(sides)
    overlap = max(overlap, min(needed, MOST_OVERLAP))
    excess = max(frame[0] / sides[0], frame[1] / sides[1])
    if 1.0 < excess <= WHOLE_UP_TO:
        return TileSides(None, overlap, whole_frame=True)
    return TileSides(sides, overlap, whole_frame=needed > MOST_OVERLAP)


def _bounded(width: float, height: float) -> Sides:
    """Return whole pixels within the limits of a side."""
    one, two = (max(SHORTEST_SIDE, min(LONGEST_SIDE, round(side))) for side in (width, height))
    return one, two
