"""Chooses a confidence per class, on labelled validation pictures and on pictures without labels.

Every other unlabelled picture is used to choose; the rest shows what the choice gives on pictures that had no part in
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.figures import Outcome, judged_scores
from training.metrics import precision_recall
from training.photographs.evaluate import Found, PictureDetector, low_outcomes
from training.photographs.folder import Photograph, PhotographError, Photographs
from training.progress import progress_bar

GRID: tuple[float, ...] = tuple(round(0.01 * step, 2) for step in range(20, 100))
"""The confidences that can be chosen. Lower ones give many boxes and take long."""


@dataclass(frozen=True)
class Goal:
    """Says what a confidence has to reach."""

    precision: float = 0.9
    """On the validation pictures that label the class."""
    false_per_megapixel: float = 0.1
    """On the unlabelled pictures that are used to choose."""


@dataclass(frozen=True)
class Choice:
    """Holds the confidence chosen for one class, and what it gives; NaN where nothing can be measured."""

    confidence: float
    reached: bool
    """Whether it reaches the goal; if not, it is the highest of the grid."""
    things: int
    """How many labelled objects took part. 0: only the unlabelled pictures decided."""
    precision: float
    recall: float
    megapixels: float
    """Of the unlabelled pictures that were used to choose, as the next."""
    false_per_megapixel: float
    other_megapixels: float
    """Of the unlabelled pictures that were not, as the next."""
    other_false_per_megapixel: float


def halves(pictures: Iterable[Photograph]) -> tuple[tuple[Photograph, ...], tuple[Photograph, ...]]:
    """Return every other picture of each set, in the order of names, to choose on, and the rest to check."""
    chosen: list[Photograph] = []
    rest: list[Photograph] = []
    seen: dict[str, int] = {}
    for one in pictures:
        number = seen.get(one.set_name, 0)
        seen[one.set_name] = number + 1
        (chosen if number % 2 == 0 else rest).append(one)
    return tuple(chosen), tuple(rest)


def choose(
    label: int, labelled: Sequence[Outcome], choosing: Sequence[Outcome], other: Sequence[Outcome], goal: Goal
) -> Choice:
    """Choose the lowest confidence of a class that reaches ``goal``.

    ``labelled``: pictures that may label the class; ``choosing`` and ``other``: pictures on which every box of it is
    counted as false.
    """
    right, scores, things = judged_scores([one for one in labelled if one.known[label]], label)
    wrong, elsewhere = _scores(choosing, label), _scores(other, label)
    area, other_area = _megapixels(choosing), _megapixels(other)

    def at(confidence: float) -> Choice:
        precision, recall = precision_recall(right, scores, things, confidence)
        return Choice(
            confidence=confidence,
            reached=False,
            things=things,
            precision=precision if things and (scores >= confidence).any() else float("nan"),
            recall=recall if things else float("nan"),
            megapixels=area,
            false_per_megapixel=_per(int((wrong >= confidence).sum()), area),
            other_megapixels=other_area,
            other_false_per_megapixel=_per(int((elsewhere >= confidence).sum()), other_area),
        )

    for confidence in GRID:
        choice = at(confidence)
        few = not choice.false_per_megapixel > goal.false_per_megapixel
        if few and (not things or choice.precision >= goal.precision):
            return replace(choice, reached=True)
    return at(GRID[-1])


def _scores(found: Iterable[Outcome], label: int) -> NDArray[np.float32]:
    parts = [one.ranked.scores[one.ranked.classes == label] for one in found]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _megapixels(found: Iterable[Outcome]) -> float:
    return sum(one.megapixels for one in found)


def _per(count: int, megapixels: float) -> float:
    return count / megapixels if megapixels else float("nan")


def choose_all(
    detector: PictureDetector, photographs: Photographs, possible: Iterable[str], goal: Goal
) -> dict[str, Choice]:
    """Choose for every class.

    Classes in ``possible`` may be on unlabelled pictures, so their boxes are counted only where a README excludes it.
    """
    labelled = photographs.of_or_none("val")
    choosing, other = halves(photographs.of_or_none("unlabelled"))
    every = (*labelled, *choosing, *other)
    if not every:
        raise PhotographError(f"{photographs.folder} has neither validation nor unlabelled pictures to choose on")
    with progress_bar(len(every), "picture") as show:
        found = list(low_outcomes(detector, every, GRID[0], show))
    first, second = len(labelled), len(labelled) + len(choosing)

    def absent(part: Sequence[Found], label: int) -> list[Outcome]:
        sure = photographs.classes[label] not in possible
        return [one.outcome for one in part if sure or one.picture.known[label]]

    return {
        name: choose(
            label,
            [one.outcome for one in found[:first]],
            absent(found[first:second], label),
            absent(found[second:], label),
            goal,
        )
        for label, name in enumerate(photographs.classes)
    }


def table(choices: dict[str, Choice]) -> str:
    """Return the choices as a Markdown table."""
    lines = [
        "| class | confidence | goal reached | labelled objects | precision | recall "
        "| false per megapixel, choosing pictures | the same, other pictures |",
        "|---" * 8 + "|",
    ]
    lines += [
        f"| {name} | {one.confidence:.2f} | {'yes' if one.reached else 'no'} | {one.things} | {one.precision:.3f} "
        f"| {one.recall:.3f} | {one.false_per_megapixel:.3f} on {one.megapixels:.0f} MP "
        f"| {one.other_false_per_megapixel:.3f} on {one.other_megapixels:.0f} MP |"
        for name, one in choices.items()
    ]
    return "\n".join(lines).replace("nan", "–")
