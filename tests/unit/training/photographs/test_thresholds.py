"""Confidences per class: the lowest one that reaches the goal, and what decided."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from training.figures import Outcome
from training.metrics import Predictions, Truth
from training.photographs.folder import Photograph
from training.photographs.labels import Labels
from training.photographs.thresholds import Goal, choose, halves, table


def outcome(truth: int, *scores: float, known: bool = True) -> Outcome:
    """Return a megapixel with ``truth`` objects in a row; the first boxes are on them, the others elsewhere."""
    rows = [(x, 10.0, x + 40, 30.0) for x in range(0, 50 * (truth + len(scores)), 50)]
    boxes = np.array(rows[: len(scores)], np.float32).reshape(-1, 4)
    ranked = Predictions(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64))
    there = Truth(np.array(rows[:truth], np.float32).reshape(-1, 4), np.zeros(truth, np.int64))
    return Outcome(1000, 1000, np.array([known]), there, np.zeros((0, 4), np.float32), ranked, ranked)


def test_the_lowest_confidence_that_reaches_both_goals_is_chosen() -> None:
    labelled = [outcome(2, 0.9, 0.6, 0.4)]
    precise = choose(0, labelled, [], [], Goal(precision=0.9))
    assert (precise.confidence, precise.reached, precise.precision, precise.recall) == (0.41, True, 1.0, 1.0)
    rare = choose(0, labelled, [outcome(0, 0.7), outcome(0)], [outcome(0, 0.8)], Goal(0.9, 0.4))
    assert (rare.confidence, rare.precision, rare.recall) == (0.71, 1.0, 0.5)
    assert (rare.megapixels, rare.false_per_megapixel) == (2.0, 0.0)
    assert (rare.other_megapixels, rare.other_false_per_megapixel) == (1.0, 1.0)


def test_without_labelled_objects_the_unlabelled_pictures_decide() -> None:
    choice = choose(0, [outcome(1, 0.9, known=False)], [outcome(0, 0.5)], [], Goal())
    assert (choice.confidence, choice.reached, choice.things) == (0.51, True, 0)
    assert math.isnan(choice.precision)
    assert math.isnan(choice.other_false_per_megapixel)


def test_a_goal_out_of_reach_gives_the_highest_confidence() -> None:
    choice = choose(0, [outcome(0, 1.0)], [outcome(0, 1.0)], [], Goal())
    assert (choice.confidence, choice.reached) == (0.99, False)
    assert "| bird | 0.99 | no | 0 |" in table({"bird": choice})


def test_halves_take_every_other_picture_of_each_set() -> None:
    names = ["a/1", "a/2", "a/3", "b/1"]
    known = np.array([True])
    pictures = [Photograph(Path(n), n, n[0], "unlabelled", "", known, Labels.none()) for n in names]
    chosen, rest = halves(pictures)
    assert [one.name for one in chosen] == ["a/1", "a/3", "b/1"]
    assert [one.name for one in rest] == ["a/2"]
