"""Loading a model: card, file, engine and head, and the first run that shows whether they fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detectors.card import ModelCard, Precision, default_card_path, read_card, verified_model_file
from detectors.engines.choose import EngineKind, available_threads, load_engine
from detectors.engines.port import Engine, EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from detectors.heads import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, objection
from detectors.heads.port import Head, HeadRequest
from detectors.inputs import constant_inputs
from detectors.onnx_file import OnnxFile, read_onnx_file
from detectors.predict import Model
from detectors.text import Prompt, read_prompt


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Which model, and how it is to run.

    card: its model.yaml, None for the model that ships; engine: auto takes the best one; threads: of the engine, 0
    takes all this process may use; precision: None takes the card's.
    """

    card: Path | None = None
    engine: EngineKind = "auto"
    threads: int = 0
    precision: Precision | None = None


def load_model(wanted: LoadRequest) -> Model:
    """The model asked for, checked with a first run.

    Raises ModelLoadError when card, file, engine and outputs do not fit together.
    """
    path = wanted.card or default_card_path()
    card = read_card(path)
    file = verified_model_file(card, path)
    about = read_onnx_file(file)
    prompt = read_prompt(card, path)
    request = EngineRequest(
        file,
        card.input,
        wanted.threads or available_threads(),
        wanted.precision or card.precision,
        constants=constant_inputs(about, card.input, file, prompt),
    )
    engine = load_engine(wanted.engine, request)
    try:
        return Model(card, engine, _checked_head(card, engine, about, prompt))
    except BaseException:
        engine.close()
        raise


def _checked_head(card: ModelCard, engine: Engine, about: OnnxFile, prompt: Prompt | None) -> Head:
    """The head that reads ``engine``'s outputs, found by a run on a blank and a noise tile.

    Raises ModelLoadError when shapes, numbers or scores are not those of the card's layout.
    """
    size = (card.input.width, card.input.height)
    try:
        outputs = engine.run(first_tiles(*size, card.input.pad))
    except InferenceError as error:
        raise ModelLoadError(f"{card.name} {card.version} failed its first run: {error}") from error
    classes = ClassNumbers(len(card.classes), card.class_ids)
    request = HeadRequest(
        *size, classes, tuple(one.name for one in about.outputs), None if prompt is None else prompt.words
    )
    head = choose_head(card.layout, request, [output.shape for output in outputs], about.metadata)
    against = objection(head, outputs, size)
    if against is not None:
        raise ModelLoadError(f"{card.name} {card.version} failed its first run: {against}")
    return head
