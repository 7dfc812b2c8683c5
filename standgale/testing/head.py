"""The contract of heads: inherit :class:`HeadContract` and give it a fixture ``harness``.

::

    class TestMyHead(HeadContract):
        @pytest.fixture
        def harness(self) -> HeadHarness:
            return MyHeadHarness()  # derives from HeadHarness
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from detectors.errors import InferenceError
from detectors.geometry.arrays import Outputs
from detectors.heads.classes import ClassNumbers
from detectors.heads.port import Head, HeadRequest

WIDTH, HEIGHT, CLASSES = 64, 32, 3
"""The input and the classes that the head of a test is built for."""


@dataclass(frozen=True, slots=True)
class KnownBox:
    """A box that a model found in one tile: corners in pixels of the input, the class's place, the score."""

    x1: float
    y1: float
    x2: float
    y2: float
    class_index: int
    score: float


TILES = (
    (KnownBox(2, 3, 20, 17, 0, 0.9), KnownBox(30, 8, 50, 24, 2, 0.6)),
    (),
    (KnownBox(40, 1, 63, 31, 1, 0.75), KnownBox(1, 1, 9, 9, 1, 0.3)),
)
"""The boxes of three tiles; the last one has a score below the usual 0.5."""


class HeadHarness:
    """What the contract needs of a head; an author derives from it."""

    output_names: tuple[str, ...] = ("output0",)
    """The names of the model's outputs, in their order."""
    tolerance = 0.01
    """How far a corner may be from where ``encode`` put it, in pixels of the input."""

    def make_head(self, request: HeadRequest) -> Head:
        """Make the head, as the entry point does."""
        raise NotImplementedError

    def encode(self, tiles: Sequence[Sequence[KnownBox]]) -> Outputs:
        """Return the outputs of a model of this layout that found these boxes, in an order of the layout's own.

        Everything else in the outputs is what the model gives where it finds nothing.
        """
        raise NotImplementedError


class HeadContract:
    """All that :class:`detectors.heads.port.Head` promises; a subclass gives the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> HeadHarness:
        """Gives the author's head, and outputs for it."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `harness` that gives a HeadHarness")

    @pytest.fixture
    def head(self, harness: HeadHarness) -> Head:
        """The head for WIDTH, HEIGHT and CLASSES."""
        return harness.make_head(HeadRequest(WIDTH, HEIGHT, ClassNumbers(CLASSES), harness.output_names))

    def test_mismatch_accepts_the_outputs_of_its_layout(self, harness: HeadHarness, head: Head) -> None:
        for tiles in (TILES, TILES[:1]):
            assert head.mismatch([output.shape for output in harness.encode(tiles)]) is None

    def test_mismatch_names_the_expected_outputs(self, harness: HeadHarness, head: Head) -> None:
        shapes = [output.shape for output in harness.encode(TILES)]
        for other in ([], [*shapes, shapes[0]], [shape[:-1] for shape in shapes], [(*shape, 2) for shape in shapes]):
            error_text = head.mismatch(other)
            assert isinstance(error_text, str)
            assert error_text, "the text is part of the error that a user reads"

    def test_decode_finds_the_boxes_of_every_tile(self, harness: HeadHarness, head: Head) -> None:
        found = head.decode(harness.encode(TILES), 0.5)
        assert [str(one.dtype) for one in (found.boxes, found.scores)] == ["float32"] * 2
        assert [str(one.dtype) for one in (found.classes, found.tiles)] == ["int32"] * 2
        expected = [(at, box) for at, boxes in enumerate(TILES) for box in boxes if box.score >= 0.5]
        assert found.tiles.tolist() == [at for at, _ in expected], "in the order of the tiles"
        rows = sorted(zip(found.tiles, found.classes, found.scores, found.boxes.tolist(), strict=True), key=_by_score)
        for row, (at, box) in zip(rows, sorted(expected, key=lambda one: (one[0], -one[1].score)), strict=True):
            tile, number, score, corners = row
            assert (tile, number) == (at, box.class_index)
            assert score == pytest.approx(box.score, abs=1e-3)
            assert corners == pytest.approx([box.x1, box.y1, box.x2, box.y2], abs=harness.tolerance)

    def test_decode_leaves_out_scores_below_the_confidence(self, harness: HeadHarness, head: Head) -> None:
        outputs = harness.encode(TILES)
        assert len(head.decode(outputs, 0.25).scores) == 4
        assert len(head.decode(outputs, 0.7).scores) == 2
        assert len(head.decode(outputs, 0.95).scores) == 0

    def test_decode_of_nothing_has_the_shapes_of_no_boxes(self, harness: HeadHarness, head: Head) -> None:
        found = head.decode(harness.encode([(), ()]), 0.5)
        assert (found.boxes.shape, found.scores.shape, found.classes.shape, found.tiles.shape) == (
            (0, 4),
            (0,),
            (0,),
            (0,),
        )

    def test_decode_of_a_batch_is_that_of_its_tiles(self, harness: HeadHarness, head: Head) -> None:
        outputs = harness.encode(TILES)
        together = head.decode(outputs, 0.25)
        for at in range(len(TILES)):
            alone = head.decode(tuple(output[at : at + 1] for output in outputs), 0.25)
            mine = together.tiles == at
            assert np.array_equal(alone.boxes, together.boxes[mine])
            assert np.array_equal(alone.scores, together.scores[mine])
            assert np.array_equal(alone.classes, together.classes[mine])

    def test_decode_changes_neither_the_outputs_nor_the_head(self, harness: HeadHarness, head: Head) -> None:
        outputs = harness.encode(TILES)
        before = [output.copy() for output in outputs]
        first, second = head.decode(outputs, 0.5), head.decode(outputs, 0.5)
        assert all(np.array_equal(one, other) for one, other in zip(outputs, before, strict=True))
        assert np.array_equal(first.boxes, second.boxes)

    def test_decode_of_nan_raises_inference_error(self, harness: HeadHarness, head: Head) -> None:
        outputs = tuple(np.full_like(output, np.nan) for output in harness.encode(TILES))
        with pytest.raises(InferenceError):
            head.decode(outputs, 0.5)


def _by_score(row: tuple[np.int32, np.int32, np.float32, list[float]]) -> tuple[int, float]:
    return int(row[0]), -float(row[2])
