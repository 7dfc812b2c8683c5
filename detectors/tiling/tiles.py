"""Plans where a frame is cut into tiles, cuts it, and moves boxes from a tile back into the frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from detectors.errors import TooManyTilesError
from detectors.geometry.arrays import BoolArray, FloatArray, ImageArray, IndexArray, IntArray
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
    scales: tuple[float, ...] = (1.0,)
    """The scales of the frame that are cut, each into a grid of its own: 0.5 halves its sides, so a tile shows twice as
    much of the frame from side to side
    """


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
    grids: FloatArray
    """float32 (N,): the scale whose grid a tile belongs to, 0 for the whole frame"""

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, numbers: IndexArray) -> TilePlan:
        """Return the plan of the tiles ``numbers`` (int64 (K,)), in that order."""
        return replace(self, boxes=self.boxes[numbers], placed=self.placed[numbers], grids=self.grids[numbers])

    def averaged(self, first: int = 0, count: int | None = None) -> list[bool]:
        """Return for ``count`` tiles from ``first`` on whether they are reduced by averaging: those of a scale below 1.

        Other tiles are resized bilinearly, as models saw it in training.
        """
        grids = self.grids[first : None if count is None else first + count]
        reduced: list[bool] = ((grids > 0) & (grids < 1)).tolist()
        return reduced

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
    """Return the plan for a frame of ``frame_width`` × ``frame_height`` pixels (both > 0), scale by scale.

    All tiles of a grid are magnified equally, also those of a frame smaller than a tile, because the model knows
    objects by their size in pixels; only where the card stretches, each fills the input. The whole-frame tile is left
    out when a tile of a grid is the frame already, in no fewer pixels. Raises TooManyTilesError beyond MOST_TILES.
    """
    if frame_width <= 0 or frame_height <= 0:
        raise ValueError(f"a frame of {frame_width}×{frame_height} pixels cannot be cut; both sides must be positive")
    frame, within = (frame_width, frame_height), (spec.input_width, spec.input_height)
    boxes: list[tuple[int, int, int, int]] = []
    placed: list[Placement] = []
    grids: list[float] = []
    seen_whole = False
    fitting = min(within[0] / frame_width, within[1] / frame_height)
    if spec.tile_width is not None and spec.tile_height is not None:
        native = min(within[0] / spec.tile_width, within[1] / spec.tile_height)
        for scale in spec.scales:
            sides = (max(1, round(spec.tile_width / scale)), max(1, round(spec.tile_height / scale)))
            width, height = min(sides[0], frame_width), min(sides[1], frame_height)
            grid = _grid(frame, (width, height), spec, len(boxes))
            at = place((width, height), within, native * scale, spec.anchor)
            seen_whole |= len(grid) == 1 and scale >= min(1.0, fitting / native)
            boxes += grid
            placed += [at] * len(grid)
            grids += [scale] * len(grid)
    if not boxes or (spec.whole_frame and not seen_whole):
        boxes.append((0, 0, frame_width, frame_height))
        placed.append(place(frame, within, fitting, spec.anchor))
        grids.append(0.0)
    return TilePlan(
        frame_width=frame_width,
        frame_height=frame_height,
        input_width=spec.input_width,
        input_height=spec.input_height,
        pad=spec.pad,
        boxes=np.array(boxes, np.int32),
        placed=np.array([(at.left, at.top, at.width, at.height) for at in placed], np.int32),
        grids=np.array(grids, np.float32),
    )


def _grid(
    frame: tuple[int, int], sides: tuple[int, int], spec: TileSpec, others: int
) -> list[tuple[int, int, int, int]]:
    """Return the tiles of ``sides`` over ``frame`` (widths, heights), row by row, beside ``others`` of other grids.

    Raises TooManyTilesError beyond MOST_TILES, before any is made.
    """
    count = _axis_count(frame[0], sides[0], spec.overlap) * _axis_count(frame[1], sides[1], spec.overlap) + others
    if count > MOST_TILES:
        scales = "" if spec.scales == (1.0,) else f" at scales {', '.join(f'{scale:g}' for scale in spec.scales)}"
        raise TooManyTilesError(
            f"{frame[0]}×{frame[1]} pixels in tiles of {sides[0]}×{sides[1]} with an overlap of {spec.overlap:g}"
            f"{scales} are {count} tiles; at most {MOST_TILES} are worked off, so make tiles larger or the overlap "
            "smaller"
        )
    width, height = sides
    lefts = axis_starts(frame[0], width, spec.overlap)
    return [
        (left, top, left + width, top + height) for top in axis_starts(frame[1], height, spec.overlap) for left in lefts
    ]


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
    averaged = plan.averaged(first, count)
    for tile, (left, top, right, bottom), at, mean in zip(tiles, boxes, placed, averaged, strict=True):
        letterbox_into(tile, image[top:bottom, left:right], Placement(*at), plan.pad, mean)
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


def touched_inner_edges(plan: TilePlan, boxes: FloatArray, tiles: IntArray) -> BoolArray:
    """Return bool (K, 4): at which inner edges of their tile (left, top, right, bottom) ``boxes`` end.

    boxes: float32 (K, 4) xyxy, frame pixels, of ``tiles``. Of a rotated box the enclosing box counts: the visible part
    of an object that an edge cuts reaches the edge.
    """
    margins = edge_margins(plan, boxes, tiles)
    distance = np.abs(boxes - plan.boxes[tiles])
    near = distance <= np.concatenate((margins, margins), axis=1)
    touched: BoolArray = near & plan.inner_edges()[tiles]
    return touched


def touches_inner_edge(plan: TilePlan, boxes: FloatArray, tiles: IntArray) -> BoolArray:
    """Return bool (K,): which ``boxes`` end at an inner edge of their tile; see :func:`touched_inner_edges`."""
    touching: BoolArray = np.logical_or.reduce(touched_inner_edges(plan, boxes, tiles), axis=1)
    return touching
