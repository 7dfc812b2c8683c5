"""Measures a model on scenes that it was not trained on, tiled and as whole frames, with the production code."""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from detectors.card.card import default_card_path
from detectors.geometry.arrays import Detections
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from detectors.settings import EngineKind, ShippedEngine
from schemas.errors import StandgaleError
from schemas.events import DetectOptions
from training import low_scores
from training.card import record_evaluation
from training.figures import ClassFigures, Outcome, class_figures
from training.low_scores import SCORE_FLOOR
from training.metrics import Metrics, Predictions, Truth, best_confidence, measure
from training.photographs.command import add_arguments, evaluate_folder
from training.photographs.report import without_nan
from training.pool import EVALUATION_SEEDS, VALIDATION_SEEDS
from training.progress import progress_bar
from training.scenes import CLASS_NAMES, Scene, SceneSpec, render_scene
from training.scenes.spec import Image

Detect = Callable[[Image, bool], tuple[Predictions, Predictions]]
"""Predictions for a BGR picture, with the settings of the card and down to a low score; tiled when the flag is set,
else the whole frame scaled down."""


class EvaluationError(StandgaleError):
    """Says that an evaluation cannot be made as requested."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Says what to measure: scenes of which size, with evaluation seeds or (to choose settings) validation seeds."""

    card: Path
    scenes: int = 200
    width: int = 4000
    height: int = 3000
    validation: bool = False
    engine: EngineKind = "auto"

    def specs(self) -> list[SceneSpec]:
        """Return the scenes to draw; none of them is used in training."""
        seeds = VALIDATION_SEEDS if self.validation else EVALUATION_SEEDS
        if not 1 <= self.scenes <= len(seeds):
            raise EvaluationError(f"scenes is {self.scenes}: give 1 to {len(seeds)}")
        return [SceneSpec(self.width, self.height, seed) for seed in seeds[: self.scenes]]


@dataclass(frozen=True)
class Evaluation:
    """Holds both measurements at the card's confidence, and the confidence that balances precision and recall best."""

    scenes: int
    width: int
    height: int
    tiled: Metrics
    whole: Metrics
    classes: dict[str, ClassFigures]
    """Figures of each class by size of object, tiled."""
    balanced_confidence: float


def detect_with(predictor: Predictor) -> Detect:
    """Return what runs ``predictor`` as `standgale detect` does, and once more for every score above the floor."""

    def detect(image: Image, tiled: bool) -> tuple[Predictions, Predictions]:
        options = DetectOptions() if tiled else DetectOptions(mode="whole")
        own, low = low_scores.both(predictor, image, options, SCORE_FLOOR)
        return _predictions(own), _predictions(low)

    return detect


def _predictions(found: Detections) -> Predictions:
    return Predictions(found.boxes, found.scores, found.classes.astype(np.int64))


def _scenes(specs: list[SceneSpec]) -> Iterator[Scene]:
    """Yield scenes in order; the next one is drawn while the last one is measured."""
    with ThreadPoolExecutor(1) as side:
        coming = side.submit(render_scene, specs[0])
        for spec in specs[1:]:
            scene = coming.result()
            coming = side.submit(render_scene, spec)
            yield scene
        yield coming.result()


def evaluate(settings: EvaluateSettings, progress: Callable[[int], None]) -> Evaluation:
    """Measure the card's model; `progress` gets the number of scenes done.

    Raises ModelLoadError when card and file do not fit, EvaluationError when there are no scenes or too many.
    """
    specs = settings.specs()
    with Predictor(load_model(LoadRequest(settings.card, engine=settings.engine))) as predictor:
        confidences = predictor.model.card.confidences
        confidence = confidences[0] if len(set(confidences)) == 1 else confidences
        return measure_scenes(specs, detect_with(predictor), confidence, progress)


def measure_scenes(
    specs: list[SceneSpec], detect: Detect, confidence: float | tuple[float, ...], progress: Callable[[int], None]
) -> Evaluation:
    """Measure any detector on scenes of one size; `confidence` is that of the settings of the card."""
    tiled: list[Outcome] = []
    whole: list[Outcome] = []
    for done, scene in enumerate(_scenes(specs), start=1):
        truth = Truth(scene.boxes, scene.labels)
        tiled.append(_outcome(specs[0], *detect(scene.image, True), truth))
        whole.append(_outcome(specs[0], *detect(scene.image, False), truth))
        progress(done)
    return Evaluation(
        scenes=len(specs),
        width=specs[0].width,
        height=specs[0].height,
        tiled=_metrics(tiled, confidence),
        whole=_metrics(whole, confidence),
        classes=_by_class(tiled),
        balanced_confidence=best_confidence([(one.ranked, one.truth) for one in tiled], len(CLASS_NAMES)),
    )


def _named_confidence(metrics: Metrics) -> str:
    if not isinstance(metrics.confidence, tuple):
        return str(metrics.confidence)
    return ", ".join(f"{least:g} ({row.name})" for row, least in zip(metrics.classes, metrics.confidence, strict=True))


def _metrics(outcomes: list[Outcome], confidence: float | tuple[float, ...]) -> Metrics:
    ranked = [(one.ranked, one.truth) for one in outcomes]
    return measure(ranked, CLASS_NAMES, confidence, [(one.found, one.truth) for one in outcomes])


def _outcome(spec: SceneSpec, found: Predictions, ranked: Predictions, truth: Truth) -> Outcome:
    return Outcome(
        width=spec.width,
        height=spec.height,
        known=np.ones(len(CLASS_NAMES), np.bool_),
        truth=truth,
        ignored=np.zeros((0, 4), np.float32),
        found=found,
        ranked=ranked,
    )


def _by_class(outcomes: list[Outcome]) -> dict[str, ClassFigures]:
    found = {name: class_figures(outcomes, label) for label, name in enumerate(CLASS_NAMES)}
    return {name: figures for name, figures in found.items() if figures is not None}


def table(evaluation: Evaluation) -> str:
    """Return the evaluation as text for people."""
    lines = [
        f"{evaluation.scenes} scenes of {evaluation.width}x{evaluation.height}, "
        f"precision and recall at confidence {_named_confidence(evaluation.tiled)}"
    ]
    lines.append(f"{'':8}{'class':10}{'mAP50':>8}{'mAP50-95':>10}{'precision':>11}{'recall':>8}{'objects':>9}")
    for mode, metrics in (("tiled", evaluation.tiled), ("whole", evaluation.whole)):
        for row in metrics.classes:
            figures = f"{row.ap50:8.3f}{row.ap50_95:10.3f}{row.precision:11.3f}{row.recall:8.3f}{row.objects:9d}"
            lines.append(f"{mode:8}{row.name:10}{figures}")
        objects = sum(row.objects for row in metrics.classes)
        figures = (
            f"{metrics.map50:8.3f}{metrics.map50_95:10.3f}{metrics.precision:11.3f}{metrics.recall:8.3f}{objects:9d}"
        )
        lines.append(f"{mode:8}{'all':10}{figures}")
    lines.append(f"precision and recall balance best at confidence {evaluation.balanced_confidence:.2f} (tiled)")
    return "\n".join(lines)


def as_json(evaluation: Evaluation) -> str:
    """Return the evaluation as JSON for scripts; the figures of a class that never occurs are null."""
    return json.dumps(without_nan(asdict(evaluation)), allow_nan=False)


def main() -> None:
    """Run the command line: python -m training.evaluate --scenes 20, or --photographs FOLDER."""
    parser = argparse.ArgumentParser(description="Measure a model on unseen scenes, or on labelled photographs.")
    default = EvaluateSettings(default_card_path())
    parser.add_argument("--card", type=Path, default=default.card)
    parser.add_argument("--engine", choices=get_args(ShippedEngine), default=default.engine)
    parser.add_argument("--record", action="store_true", help="write the figures into the card")
    drawn = parser.add_argument_group("drawn scenes")
    drawn.add_argument("--scenes", type=int, default=default.scenes)
    drawn.add_argument("--width", type=int, default=default.width)
    drawn.add_argument("--height", type=int, default=default.height)
    drawn.add_argument("--validation", action="store_true", help="use the validation seeds, to choose thresholds")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.photographs is not None:
        evaluate_folder(arguments)
        return
    settings = EvaluateSettings(
        arguments.card, arguments.scenes, arguments.width, arguments.height, arguments.validation, arguments.engine
    )
    with progress_bar(settings.scenes, "scene") as show:
        result = evaluate(settings, show)
    print(table(result))
    print(as_json(result))
    if arguments.record:
        record_evaluation(settings.card, result.tiled, result.whole, result.scenes, result.classes)


if __name__ == "__main__":
    main()
