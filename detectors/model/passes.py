"""Decides which tiles of a frame are processed, pass by pass, and keeps what they give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np

from detectors.geometry.arrays import Candidates, IndexArray
from detectors.model.options import Resolved
from detectors.tiling import scales as scaling
from detectors.tiling.tiles import TilePlan

MergeScale = Callable[[Candidates, Resolved], Candidates]
"""Merges the candidates of one scale, with the options of the frame."""


@dataclass(frozen=True, slots=True)
class ScaleTiles:
    """Says how many tiles of one scale were processed; scale 0 is the frame as a whole."""

    scale: float
    tiles: int


class Passes:
    """Holds the tiles of one frame: a single pass with all of them, unless a quick pass has to choose the scales.

    Use: process ``part`` and ``add`` its candidates, until ``part`` is None. Not for several threads at once.
    """

    def __init__(self, plan: TilePlan, options: Resolved, merge: MergeScale) -> None:
        self.plan = plan
        self.options = options
        """The scales in them are those to choose from, until the last pass is done."""
        self.part: TilePlan | None = plan
        """The tiles to process next; None when all are done"""
        self.found = Candidates.concatenate([])
        """The candidates of all processed tiles of the scales in ``options``, with the tiles of ``plan``"""
        self.processed = np.zeros(len(plan), np.bool_)
        self._merge = merge
        self._numbers: IndexArray | None = None
        self._quick: Generator[IndexArray, None, None] | None = None
        if options.undecided:
            self._quick = self._quick_pass()
            self._begin(next(self._quick))

    def add(self, found: Candidates) -> None:
        """Take the candidates of ``part``, whose tiles they count, in any order of tiles; go on to the next pass."""
        if self._numbers is None or self._quick is None:
            self.found, self.part = found, None
            self.processed[:] = True
            return
        moved = replace(found, tiles=self._numbers[found.tiles].astype(np.int32))
        self.found = Candidates.concatenate([self.found, moved])
        self.processed[self._numbers] = True
        self._begin(next(self._quick, None))

    def tiles_by_scale(self) -> tuple[ScaleTiles, ...]:
        """Return how many tiles of each scale were processed, in the order of the plan."""
        done = self.plan.grids[self.processed]
        order = dict.fromkeys(done.tolist())
        return tuple(ScaleTiles(round(scale, 6), int((done == np.float32(scale)).sum())) for scale in order)

    def _begin(self, numbers: IndexArray | None) -> None:
        self._numbers = numbers
        self.part = None if numbers is None else self.plan.take(numbers)

    def _quick_pass(self) -> Generator[IndexArray, None, None]:
        """Yield the tiles of each pass: coarse ones, fine ones where these show most, the rest of what is chosen."""
        plan = self.plan
        coarse = scaling.coarse_tiles(plan)
        yield coarse
        compared = scaling.compared_tiles(plan, coarse, self.found)
        at_coarse = self.found
        fine = scaling.fine_tiles(plan, compared)
        if len(fine):
            yield fine
        at_fine = self.found.take(np.isin(self.found.tiles, fine))
        chosen = scaling.choose_scales(
            plan, compared, *(self._merge(each, self.options) for each in (at_coarse, at_fine))
        )
        self.options = replace(self.options, scales=chosen, undecided=False)
        wanted = np.isin(plan.grids, np.array((*chosen, 0.0), np.float32))
        self.found = replace(self.found.take(wanted[self.found.tiles]), too_large=self.found.too_large)
        rest = np.flatnonzero(wanted & ~self.processed)
        if len(rest):
            yield rest
