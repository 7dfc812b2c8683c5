"""Runs a card's model on photographs as production does, and collects the figures of each set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.arrays import Detections, ImageArray
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from detectors.settings import EngineKind
from schemas.events import DetectOptions
from training import low_scores
from training.figures import ClassFigures, Outcome, boxes_of, class_figures
from training.low_scores import SCORE_FLOOR
from training.metrics import Predictions, Truth
from training.photographs.folder import Photograph, PhotographError, Photographs, Source, Split

ALL = "all"
"""The name of the total over all sets."""

_Figures = TypeVar("_Figures")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class PhotographSettings:
    """Says which model to measure, on which pictures."""

    card: Path
    split: Split = "test"
    engine: EngineKind = "auto"
    options: DetectOptions = DetectOptions()  # noqa: RUF009 (frozen)
    """What differs from the card."""


@dataclass(frozen=True)
class SetFigures:
    """Holds the figures of one set of labelled pictures, or of all."""

    pictures: int
    megapixels: float
    classes: dict[str, ClassFigures]
    """Only those that are labelled throughout."""
    unjudged: dict[str, int]
    """Boxes of the other classes on the same pictures; nobody knows which of them are right."""
    map50: float
    """Mean over the classes that occur, as the next."""
    map50_95: float


@dataclass(frozen=True)
class UnlabelledFigures:
    """Holds how many boxes were found on pictures without labels."""

    pictures: int
    megapixels: float
    nothing_there: bool
    """Whether the pictures show nothing of any class, so that every box is false."""
    boxes: dict[str, int]
    per_megapixel: dict[str, float]


@dataclass(frozen=True)
class PhotographEvaluation:
    """Holds what one model reaches on a folder of photographs."""

    model: str
    version: str
    sha256: str
    confidences: dict[str, float]
    """Lowest scores that count, per class."""
    options: dict[str, object]
    """What differed from the card."""
    split: Split
    sources: dict[str, Source]
    """Of each set that was used."""
    sets: dict[str, SetFigures]
    unlabelled: dict[str, UnlabelledFigures]


@dataclass(frozen=True, eq=False)
class Found:
    """Holds the outcome for one picture."""

    picture: Photograph
    outcome: Outcome


class PictureDetector:
    """Runs a predictor, and numbers its classes as the folder does."""

    def __init__(self, predictor: Predictor, classes: Sequence[str], options: DetectOptions) -> None:
        """Raise PhotographError when model and folder have no class in common."""
        names = [one.name for one in predictor.model.card.classes]
        shared = [name for name in names if name in classes]
        if not shared:
            raise PhotographError(
                f"the model has {', '.join(names)}, the photographs {', '.join(classes)}: no class in common; "
                "rename the classes in the card or in classes.txt"
            )
        self._numbers = np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)
        self._predictor = predictor
        self._own = options

    def known(self, classes: int) -> NDArray[np.bool_]:
        """Return which of the folder's classes the model has."""
        return np.isin(np.arange(classes), self._numbers)

    def run(self, image: ImageArray, floor: float | None) -> tuple[Predictions, Predictions]:
        """Return what is found with the settings of the card, and what is with scores down to ``floor``.

        Without ``floor`` both are the same.
        """
        if floor is None:
            found = self._numbered(self._predictor.predict(image, self._own))
            return found, found
        own, ranked = low_scores.both(self._predictor, image, self._own, floor)
        return self._numbered(own), self._numbered(ranked)

    def low(self, image: ImageArray, floor: float) -> Predictions:
        """Return what is found with scores down to ``floor``, at the scales of the card's own settings."""
        return self._numbered(low_scores.low(self._predictor, image, self._own, floor))

    def _numbered(self, found: Detections) -> Predictions:
        classes = self._numbers[found.classes.astype(np.int64)]
        kept = classes >= 0
        return Predictions(found.boxes[kept], found.scores[kept], classes[kept])


def outcomes(
    detector: PictureDetector, pictures: Sequence[Photograph], floor: float | None, progress: Progress
) -> Iterator[Found]:
    """Yield the outcome of each picture, in order; ``floor``: with predictions down to it too, which takes longer."""
    for done, picture in enumerate(pictures, start=1):
        image = picture.pixels()
        yield Found(picture, _outcome(detector, picture, image, *detector.run(image, floor)))
        progress(done)


def low_outcomes(
    detector: PictureDetector, pictures: Sequence[Photograph], floor: float, progress: Progress
) -> Iterator[Found]:
    """Yield the outcome of each picture, in order, with predictions down to ``floor`` only."""
    for done, picture in enumerate(pictures, start=1):
        image = picture.pixels()
        low = detector.low(image, floor)
        yield Found(picture, _outcome(detector, picture, image, low, low))
        progress(done)


def _outcome(
    detector: PictureDetector, picture: Photograph, image: ImageArray, found: Predictions, ranked: Predictions
) -> Outcome:
    height, width = image.shape[:2]
    return Outcome(
        width=width,
        height=height,
        known=picture.known & detector.known(len(picture.known)),
        truth=Truth(*picture.labels.boxes(width, height)),
        ignored=picture.labels.ignored(width, height),
        found=found,
        ranked=ranked,
    )


def evaluate_photographs(
    settings: PhotographSettings, photographs: Photographs, progress: Progress
) -> PhotographEvaluation:
    """Measure a card's model on one split and on the unlabelled pictures; ``progress`` gets the pictures done.

    Raises ModelLoadError when card and file do not fit, PhotographError when pictures cannot be read or used.
    """
    labelled = photographs.of(settings.split)
    rest = () if settings.split == "unlabelled" else photographs.of_or_none("unlabelled")
    with Predictor(load_model(LoadRequest(settings.card, engine=settings.engine))) as predictor:
        detector = PictureDetector(predictor, photographs.classes, settings.options)
        found = list(outcomes(detector, labelled, floor=SCORE_FLOOR, progress=progress))
        found += outcomes(detector, rest, floor=None, progress=lambda done: progress(len(labelled) + done))
        card = predictor.model.card
    return PhotographEvaluation(
        model=card.name,
        version=card.version,
        sha256=card.sha256,
        confidences={
            one.name: least if settings.options.confidence is None else settings.options.confidence
            for one, least in zip(card.classes, card.confidences, strict=True)
        },
        options=settings.options.model_dump(exclude_none=True),
        split=settings.split,
        sources={name: photographs.source(name) for name in sorted({one.set_name for one in (*labelled, *rest)})},
        sets=_by_set(found, photographs.classes, _set_figures, unlabelled=False),
        unlabelled=_by_set(found, photographs.classes, _unlabelled_figures, unlabelled=True),
    )


def _by_set(
    found: Sequence[Found],
    classes: tuple[str, ...],
    figures: Callable[[Sequence[Found], tuple[str, ...]], _Figures],
    *,
    unlabelled: bool,
) -> dict[str, _Figures]:
    groups: defaultdict[str, list[Found]] = defaultdict(list)
    for one in found:
        if (one.picture.split == "unlabelled") == unlabelled:
            groups[one.picture.set_name].append(one)
    if groups:
        groups[ALL] = [one for group in list(groups.values()) for one in group]
    return {name: figures(group, classes) for name, group in groups.items()}


def _set_figures(found: Sequence[Found], classes: tuple[str, ...]) -> SetFigures:
    results = [one.outcome for one in found]
    figures = {name: class_figures(results, label) for label, name in enumerate(classes)}
    judged = {name: one for name, one in figures.items() if one is not None}
    occurring = [one for one in judged.values() if one.things]
    return SetFigures(
        pictures=len(results),
        megapixels=sum(one.megapixels for one in results),
        classes=judged,
        unjudged={
            name: boxes_of((one for one in results if not one.known[label]), label)
            for label, name in enumerate(classes)
            if not all(one.known[label] for one in results)
        },
        map50=float(np.mean([one.ap50 for one in occurring])) if occurring else float("nan"),
        map50_95=float(np.mean([one.ap50_95 for one in occurring])) if occurring else float("nan"),
    )


def _unlabelled_figures(found: Sequence[Found], classes: tuple[str, ...]) -> UnlabelledFigures:
    results = [one.outcome for one in found]
    megapixels = sum(one.megapixels for one in results)
    boxes = {name: boxes_of(results, label) for label, name in enumerate(classes)}
    return UnlabelledFigures(
        pictures=len(results),
        megapixels=megapixels,
        nothing_there=all(one.picture.known.all() for one in found),
        boxes=boxes,
        per_megapixel={name: count / megapixels for name, count in boxes.items()},
    )
