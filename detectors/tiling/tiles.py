"""Plans where a frame is cut into tiles, cuts it, and moves boxes from a tile back into the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.errors import TooManyTilesError
from detectors.geometry.arrays import BoolArray, FloatArray, ImageArray, IntArray
from detectors.tiling.letterbox import Anchor, Placement, letterbox_into, place

# A box cut by a tile's edge rarely ends exactly there: models miss an edge by some pixels, by more on larger boxes.
EDGE_MARGIN_INPUT_PX = 3.0
EDGE_MARGIN_OF_SIDE = 0.05
# A picture of 200,000 by 200,000 pixels in tiles of 640 has about half as many.
MOST_TILES = 300_000


@dataclass(frozen=True, slots=True)
class TileSpec:
    """Says how frames are cut for one model."""

    input_width: int
    """Pixels of the model's input"""
    input_height: int
    """Pixels of the model's input"""
    tile_width: int | None
    """Pixels of the frame; None for the frame as a whole only"""
    tile_height: int | None
    """Pixels of the frame; None for the frame as a whole only"""
    overlap: float
    """The share of a tile that the next one shows again, 0 <= overlap < 1"""
    whole_frame: bool
    """Whether one more tile shows the whole frame, scaled down"""
    anchor: Anchor = "center"
    pad: int = 114


@dataclass(frozen=True, slots=True, eq=False)
class TilePlan:
    """Says where one frame is cut and where each tile is in the model's input; N >= 1 tiles, whole frame last."""

    frame_width: int
    frame_height: int
    input_width: int
    input_height: int
    pad: int
    boxes: IntArray
    """int32 (N, 4) xyxy in frame pixels, row by row"""
    placed: IntArray
    """int32 (N, 4): left, top, width, height of the tile in pixels of the model's input"""

    def __len__(self) -> int:
        return len(self.boxes)

    def scales(self) -> FloatArray:
        """Return float32 (N, 2): pixels of the input per pixel of the frame, in x and y (which differ by rounding)."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return (self.placed[:, 2:] / sides).astype(np.float32)

    def inner_edges(self) -> BoolArray:
        """Return bool (N, 4): whether the left, top, right and bottom edge of each tile is inside the frame."""
        frame = np.array([0, 0, self.frame_width, self.frame_height])
        inside: BoolArray = self.boxes != frame
        return inside


def axis_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles of ``tile`` pixels start on an axis of ``length`` pixels; the last one ends at the end.

    An axis that is not longer than a tile has one tile. No two starts are equal.
    """
    if length <= tile:
        return [0]
    stride = max(1, round(tile * (1.0 - overlap)))
    starts = list(range(0, length - tile, stride))
    return [*starts, length - tile]


def _axis_count(length: int, tile: int, overlap: float) -> int:
    """Return how many starts ``axis_starts`` finds."""
    return 1 if length <= tile else 1 - (tile - length) // max(1, round(tile * (1.0 - overlap)))


def plan_tiles(frame_width: int, frame_height: int, spec: TileSpec) -> TilePlan:
    """Return the plan for a frame of ``frame_width`` × ``frame_height`` pixels (both > 0).

    All tiles of the grid are magnified equally, also those of a frame smaller than a tile, because the model knows
    objects by their size in pixels; only where the card stretches, each fills the input. The whole-frame tile is left
    out when one tile of the grid is the frame already. Raises TooManyTilesError beyond MOST_TILES.
    """
    if frame_width <= 0 or frame_height <= 0:
        raise ValueError(f"a frame of {frame_width}×{frame_height} pixels cannot be cut; both sides must be positive")
    within = (spec.input_width, spec.input_height)
    boxes: list[tuple[int, int, int, int]] = []
    placed: list[Placement] = []
    if spec.tile_width is not None and spec.tile_height is not None:
        scale = min(within[0] / spec.tile_width, within[1] / spec.tile_height)
        width, height = min(spec.tile_width, frame_width), min(spec.tile_height, frame_height)
        count = _axis_count(frame_width, width, spec.overlap) * _axis_count(frame_height, height, spec.overlap)
        if count > MOST_TILES:
            raise TooManyTilesError(
                f"{frame_width}×{frame_height} pixels in tiles of {width}×{height} with an overlap of {spec.overlap:g} "
                f"are {count} tiles; at most {MOST_TILES} are worked off, so make tiles larger or the overlap smaller"
            )
        at = place((width, height), within, scale, spec.anchor)
        for top in axis_starts(frame_height, height, spec.overlap):
            for left in axis_starts(frame_width, width, spec.overlap):
                boxes.append((left, top, left + width, top + height))
                placed.append(at)
    if not boxes or (spec.whole_frame and len(boxes) > 1):
        scale = min(within[0] / frame_width, within[1] / frame_height)
        boxes.append((0, 0, frame_width, frame_height))
        placed.append(place((frame_width, frame_height), within, scale, spec.anchor))
    return TilePlan(
        frame_width=frame_width,
        frame_height=frame_height,
        input_width=spec.input_width,
        input_height=spec.input_height,
        pad=spec.pad,
        boxes=np.array(boxes, np.int32),
        placed=np.array([(at.left, at.top, at.width, at.height) for at in placed], np.int32),
    )


def cut(image: ImageArray, plan: TilePlan, first: int = 0, count: int | None = None) -> ImageArray:
    """Return ``count`` tiles from ``first`` on (all by default) of ``image`` (uint8 (h, w, 3)), letterboxed.

    The result is uint8 (n, input_height, input_width, 3), contiguous, channels as in ``image``. Raises ValueError when
    the size of the image is not that of the plan.
    """
    if image.shape != (plan.frame_height, plan.frame_width, 3):
        raise ValueError(f"the plan is for {plan.frame_width}×{plan.frame_height} pixels, the image is {image.shape}")
    wanted = slice(first, None if count is None else first + count)
    boxes, placed = plan.boxes[wanted].tolist(), plan.placed[wanted].tolist()
    tiles = np.empty((len(boxes), plan.input_height, plan.input_width, 3), np.uint8)
    for tile, (left, top, right, bottom), at in zip(tiles, boxes, placed, strict=True):
        letterbox_into(tile, image[top:bottom, left:right], Placement(*at), plan.pad)
    return tiles


def to_frame(plan: TilePlan, boxes: FloatArray, tiles: IntArray) -> FloatArray:
    """Return ``boxes`` (float32 (K, 4) xyxy, pixels of the model's input) of ``tiles`` ((K,)) in frame pixels.

    They are clipped to their tile: outside it a model only guesses.
    """
    offsets = plan.placed[:, :2].astype(np.float32)[tiles]
    scales = plan.scales()[tiles]
    origins = plan.boxes[tiles]
    corners = (boxes.reshape(-1, 2, 2) - offsets[:, None, :]) / scales[:, None, :] + origins[:, None, :2]
    low, high = origins[:, None, :2], origins[:, None, 2:]
    clipped: FloatArray = np.clip(corners, low, high).reshape(-1, 4).astype(np.float32)
    return clipped


def quads_to_frame(plan: TilePlan, quads: FloatArray, tiles: IntArray) -> FloatArray:
    """Return ``quads`` (float32 (K, 4, 2), pixels of the model's input) of ``tiles`` ((K,)) in frame pixels.

    They are not clipped, because a clipped one is not a rotated box. Where the letterbox stretches, a rectangle in the
    input is a parallelogram in the frame, with its corners in the right places.
    """
    offsets = plan.placed[:, :2].astype(np.float32)[tiles]
    moved: FloatArray = (
        (quads - offsets[:, None]) / plan.scales()[tiles][:, None] + plan.boxes[tiles][:, None, :2]
    ).astype(np.float32)
    return moved


def edge_margins(plan: TilePlan, boxes: FloatArray, tiles: IntArray) -> FloatArray:
    """Return float32 (K, 2): how near to an edge, in x and y, a box touches it; all in frame pixels."""
    sides = boxes[:, 2:] - boxes[:, :2]
    margins: FloatArray = np.maximum(EDGE_MARGIN_INPUT_PX / plan.scales()[tiles], EDGE_MARGIN_OF_SIDE * sides)
    return margins


def touches_inner_edge(plan: TilePlan, boxes: FloatArray, tiles: IntArray) -> BoolArray:
    """Return bool (K,): which ``boxes`` (float32 (K, 4) xyxy, frame pixels, of ``tiles``) end at an inner tile edge.

    Of a rotated box the enclosing box counts: the visible part of an object that an edge cuts reaches the edge.
    """
    margins = edge_margins(plan, boxes, tiles)
    distance = np.abs(boxes - plan.boxes[tiles])
    near = distance <= np.concatenate((margins, margins), axis=1)
    touching: BoolArray = (near & plan.inner_edges()[tiles]).any(axis=1)
    return touching
