"""Checks annotated pictures: the card's colours, boxes in the right place, and an unchanged original."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections
from detectors.images.draw import class_colour, draw_detections

CLASSES = (ClassCard(name="car", color="#ff8000"), ClassCard(name="boat"), ClassCard(name="gull"))


def detections(boxes: list[list[float]], classes: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(classes), 0.5, np.float32),
        np.array(classes, np.int32),
    )


def test_the_cards_colour_is_drawn_on_the_lines_of_the_box() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(image, detections([[50, 80, 120, 150]], [0]), CLASSES)
    assert not image.any()
    for x, y in ((50, 100), (119, 100), (80, 149)):
        line = drawn[y - 1 : y + 3, x - 1 : x + 3].reshape(-1, 3).max(axis=0).tolist()
        assert line == pytest.approx([0, 128, 255], abs=30)
    assert not drawn[90:140, 60:110].any()


def test_a_rotated_box_is_drawn_along_its_own_sides() -> None:
    quad = np.array([[[100, 40], [160, 100], [100, 160], [40, 100]]], np.float32)
    found = Detections(
        np.array([[40, 40, 160, 160]], np.float32), np.full(1, 0.5, np.float32), np.zeros(1, np.int32), quad
    )
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), found, CLASSES)
    for x, y in ((130, 70), (130, 130), (70, 130), (70, 70)):
        assert drawn[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).max(axis=0).tolist() == pytest.approx(
            [0, 128, 255], abs=60
        )
    assert not drawn[150:158, 42:60].any()
    assert not drawn[90:110, 90:110].any()


def test_classes_without_colour_get_different_colours() -> None:
    colours = {class_colour(index, CLASSES[1]) for index in range(12)}
    assert len(colours) == 12
    assert class_colour(0, CLASSES[0]) == (0, 128, 255)


@pytest.mark.parametrize("box", [[0, 0, 300, 200], [-4, -4, 9, 9], [290, 190, 310, 230], [299, 0, 300, 1]])
def test_boxes_at_and_beyond_the_frames_edge(box: list[float]) -> None:
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), detections([box], [1]), CLASSES)
    assert drawn.shape == (200, 300, 3)
    assert drawn.any()


def test_lines_grow_with_the_picture() -> None:
    small = draw_detections(np.zeros((500, 500, 3), np.uint8), detections([[100, 100, 400, 400]], [0]), CLASSES)
    large = draw_detections(np.zeros((4000, 4000, 3), np.uint8), detections([[800, 800, 3200, 3200]], [0]), CLASSES)
    assert (large[2000, 700:900] > 0).any(axis=1).sum() > (small[250, 80:120] > 0).any(axis=1).sum()


def test_no_detections_no_change() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert (draw_detections(image, detections([], []), CLASSES) == image).all()
