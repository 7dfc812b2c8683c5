"""Heads that ship keep the head contract: one with a box per anchor, and one with finished boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detectors.geometry.arrays import Outputs
from detectors.heads.choice import HEADS
from detectors.heads.port import Head, HeadRequest
from standgale.testing.graphs import anchors
from standgale.testing.head import CLASSES, HEIGHT, WIDTH, HeadContract, HeadHarness, KnownBox


class YoloV8Harness(HeadHarness):
    def make_head(self, request: HeadRequest) -> Head:
        return HEADS["yolov8"](request)

    def encode(self, tiles: Sequence[Sequence[KnownBox]]) -> Outputs:
        output = np.zeros((len(tiles), 4 + CLASSES, anchors(WIDTH, HEIGHT)), np.float32)
        for at, boxes in enumerate(tiles):
            for anchor, box in enumerate(boxes):
                centre = ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)
                output[at, :4, anchor] = (*centre, box.x2 - box.x1, box.y2 - box.y1)
                output[at, 4 + box.class_index, anchor] = box.score
        return (output,)


class NmsInsideHarness(HeadHarness):
    def make_head(self, request: HeadRequest) -> Head:
        return HEADS["nms_inside"](request)

    def encode(self, tiles: Sequence[Sequence[KnownBox]]) -> Outputs:
        output = np.zeros((len(tiles), 20, 6), np.float32)
        for at, boxes in enumerate(tiles):
            for row, box in enumerate(boxes):
                output[at, row] = (box.x1, box.y1, box.x2, box.y2, box.score, box.class_index)
        return (output,)


class TestYoloV8Head(HeadContract):
    @pytest.fixture
    def harness(self) -> YoloV8Harness:
        return YoloV8Harness()


class TestNmsInsideHead(HeadContract):
    @pytest.fixture
    def harness(self) -> NmsInsideHarness:
        return NmsInsideHarness()
