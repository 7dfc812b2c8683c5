"""What an ONNX file is, found out by reading and running it, and the card that follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import yaml

from detectors.arrays import Outputs
from detectors.card import ClassCard, InputCard, Layout, ModelCard
from detectors.engines.choose import EngineKind, load_engine
from detectors.engines.port import EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from detectors.heads import LAYOUTS, described, fitting_heads, layouts_to_try, narrowed
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, objection
from detectors.heads.metadata import class_names, input_size
from detectors.heads.port import Head, HeadRequest, Shape
from detectors.inputs import asked_in_words, constant_inputs, picture_of
from detectors.onnx_file import OnnxFile, TensorInfo, read_onnx_file
from detectors.text import Asked, Prompt, text_beside

_USUAL_SIDE = 640
# Of a model that is asked in words.
_USUAL_SIDE_ASKED = 800
_SMALLEST_SIDE, _LARGEST_SIDE = 32, 8192
_USUAL_CLASSES = 80
_LONGEST_NAME = 100
_PLAIN = "pixels 0 to 1"
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# How each layout's models were trained to see pictures, and the same in words.
_INPUTS: Mapping[Layout, tuple[Mapping[str, object], str]] = {
    "yolov8": ({}, f"RGB, {_PLAIN}, centred letterbox padded with 114"),
    "yolov5": ({}, f"RGB, {_PLAIN}, centred letterbox padded with 114"),
    "nms_inside": ({}, f"RGB, {_PLAIN}, centred letterbox padded with 114"),
    "yolox": (
        {"channels": "bgr", "scale": 1.0, "letterbox": "top_left"},
        "BGR, pixels 0 to 255, letterbox at the top left padded with 114",
    ),
    "yolox_decoded": (
        {"channels": "bgr", "scale": 1.0, "letterbox": "top_left"},
        "BGR, pixels 0 to 255, letterbox at the top left padded with 114",
    ),
    "rtdetr": (
        {"letterbox": "stretch"},
        f"RGB, {_PLAIN}, stretched (a model trained with a letterbox wants letterbox: center)",
    ),
    "rfdetr": (
        {**_IMAGENET, "letterbox": "stretch"},
        "RGB, ImageNet mean and standard deviation, stretched",
    ),
    "yolov8_obb": ({}, f"RGB, {_PLAIN}, centred letterbox padded with 114"),
    "nms_inside_obb": ({}, f"RGB, {_PLAIN}, centred letterbox padded with 114"),
    "grounding_dino": (
        {**_IMAGENET, "letterbox": "stretch"},
        "RGB, ImageNet mean and standard deviation, stretched",
    ),
}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a model file.

    outputs: with the shapes a run gave, the first axis being the tile; card: one that loads; assumed: what the card
    says although the file does not, in words.
    """

    about: OnnxFile
    outputs: tuple[TensorInfo, ...]
    card: ModelCard
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read the model: by a layout, with classes, fed in that layout's way."""

    layout: Layout
    head: Head
    classes: tuple[ClassCard, ...]


class _Prober:
    """Runs one file, fed in different ways, on the first tiles."""

    def __init__(
        self, path: Path, about: OnnxFile, size: tuple[int, int], engine: EngineKind, prompt: Prompt | None
    ) -> None:
        self._path = path
        self._about = about
        self._size = size
        self._engine = engine
        self._prompt = prompt
        self._answers: dict[InputCard, Outputs] = {}

    def run(self, card: InputCard) -> Outputs:
        """The outputs for the first tiles. Raises ModelLoadError when no engine can load or run the file."""
        if card not in self._answers:
            constants = constant_inputs(self._about, card, self._path, self._prompt)
            engine = load_engine(self._engine, EngineRequest(self._path, card, 1, "f32", constants=constants))
            try:
                self._answers[card] = engine.run(first_tiles(*self._size, card.pad))
            except InferenceError as error:
                width, height = self._size
                raise ModelLoadError(
                    f"{self._path} failed its first run with {width}×{height} pixels: {error}; "
                    "where the file leaves its input size open, state the right one with --size"
                ) from error
            finally:
                engine.close()
        return self._answers[card]


def inspect_model(
    path: Path,
    layout: Layout | None = None,
    names: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    engine: EngineKind = "auto",
) -> Inspection:
    """What the ONNX file at ``path`` is. ``layout``, class ``names`` and the input's ``size`` (width and height in
    pixels, where the file leaves it open) are what the caller knows of it.

    Raises ModelLoadError when the file cannot be read or run, when it fits no layout, or several that a run cannot
    tell apart.
    """
    about = read_onnx_file(path)
    size, assumed = _size(about, path, size)
    asked = _asked(about, path, names)
    prompt = None if asked is None else asked.prompt
    prober = _Prober(path, about, size, engine, prompt)
    outputs = prober.run(_input("yolov8", size))
    shapes = [output.shape for output in outputs]
    readings = _readings(about, size, shapes, layout, names, prompt)
    reading, how = _only_plausible(readings, prober, size)
    if layout is None and how:
        assumed.append(how)
    if not names and class_names(about.metadata) is None:
        known = "" if _columns(reading.layout, about, shapes) else ", nor how many they are"
        assumed.append(f"classes: the file does not name them{known}; correct the {len(reading.classes)} in the card")
    if asked is not None:
        text = asked.text
        assumed.append(
            f"text: the tokenizer is the {text.tokenizer} beside the file; words count from {text.threshold}"
        )
    assumed.append(f"input: {_INPUTS[reading.layout][1]}, as is usual for layout {reading.layout}")
    if not about.metadata.get("license"):
        assumed.append("licence: unknown, the file does not state one")
    assumed.append("name and version: the file's name, and 1.0.0")
    true_outputs = tuple(
        TensorInfo(one.name, one.type, (None, *shape[1:])) for one, shape in zip(about.outputs, shapes, strict=True)
    )
    return Inspection(about, true_outputs, _card(path, about, reading, size, asked), tuple(assumed))


def _asked(about: OnnxFile, path: Path, names: Sequence[str]) -> Asked | None:
    """How the model is asked in words, when it is. Raises ModelLoadError when nobody says what to ask for."""
    if not asked_in_words(about):
        return None
    if not names:
        raise ModelLoadError(f"{path} is asked in words; say what for, with --classes drone,small boat")
    return text_beside(path, names)


def _card(path: Path, about: OnnxFile, reading: _Reading, size: tuple[int, int], asked: Asked | None) -> ModelCard:
    return ModelCard(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:_LONGEST_NAME] or "model",
        version="1.0.0",
        file=path.name,
        sha256=_checksum(path),
        layout=reading.layout,
        input=_input(reading.layout, size),
        classes=reading.classes,
        text=None if asked is None else asked.text,
        files=_weights_beside(path, about) | ({} if asked is None else dict(asked.files)),
        licence=about.metadata.get("license") or "unknown",
    )


def _weights_beside(path: Path, about: OnnxFile) -> dict[str, str]:
    """The files in which an ONNX file over 2 GB keeps its weights, with their checksums."""
    return {name: _checksum(path.parent / name) for name in about.external_data}


def write_card(inspection: Inspection, folder: Path) -> Path:
    """The card as ``model.yaml`` in ``folder``; returns its path. Raises ModelLoadError when one is there already."""
    path = folder / "model.yaml"
    fields = inspection.card.model_dump(mode="json", exclude_none=True, exclude={"training"})
    notes = "".join(f"# Assumed: {each}\n" for each in inspection.assumed)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(notes + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))
    except FileExistsError as error:
        raise ModelLoadError(f"{path} is there already and stays as it is; move it away to have a new one") from error
    except OSError as error:
        raise ModelLoadError(
            f"{path} cannot be written ({error.strerror}); copy the model to another folder"
        ) from error
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _input(layout: Layout, size: tuple[int, int]) -> InputCard:
    return InputCard.model_validate({"width": size[0], "height": size[1], **_INPUTS[layout][0]})


def _size(about: OnnxFile, path: Path, given: tuple[int, int] | None) -> tuple[tuple[int, int], list[str]]:
    """Width and height of the picture the model takes, and what was assumed of them; ``given`` fills what is open."""
    shape = picture_of(about.inputs, path).shape
    if len(shape) != 4 or shape[1] not in (None, 3):
        raise ModelLoadError(f"{path} takes input {list(shape)}; a picture (N, 3, height, width) is expected")
    _, _, height, width = shape
    stated = given or input_size(about.metadata)
    side = _USUAL_SIDE_ASKED if asked_in_words(about) else _USUAL_SIDE
    usual = stated or (side, side)
    found = (width or usual[0], height or usual[1])
    if not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in found):
        raise ModelLoadError(
            f"{path} takes pictures of {found[0]}×{found[1]} pixels; sides from {_SMALLEST_SIDE} to {_LARGEST_SIDE} fit"
        )
    if given is not None and found != given:
        raise ModelLoadError(f"{path} takes pictures of {found[0]}×{found[1]} pixels; leave --size out")
    if (width and height) or stated:
        return found, []
    return found, [f"input size: the file leaves it open, {found[0]}×{found[1]} is usual"]


def _columns(layout: Layout, about: OnnxFile, shapes: Sequence[Shape]) -> int | None:
    """How many classes outputs of ``shapes`` have when they are of ``layout``; None when they do not show it."""
    shape = shapes[0]
    if layout == "rfdetr":
        return next((shape[-1] for one, shape in zip(about.outputs, shapes, strict=True) if one.name == "labels"), None)
    if layout in ("nms_inside", "nms_inside_obb", "rtdetr", "grounding_dino") or len(shape) != 3:
        return None
    if layout in ("yolov8", "yolov8_obb"):
        return max(1, shape[1] - (4 if layout == "yolov8" else 5))
    return max(1, shape[2] - 5)


def _classes(about: OnnxFile, names: Sequence[str], count: int | None) -> tuple[ClassCard, ...]:
    """The caller's names, else the file's, else made up ones; ``count``: how many the outputs show."""
    given = dict(enumerate(names)) or class_names(about.metadata)
    if given is None:
        given = {number: f"class_{number}" for number in range(count or _USUAL_CLASSES)}
    in_order = list(given) == list(range(len(given)))
    plain = {number: name[:_LONGEST_NAME].strip() for number, name in given.items()}
    if len(set(plain.values())) < len(plain) or "" in plain.values():
        # With its number behind it no name can be that of another class.
        plain = {number: f"{name[: _LONGEST_NAME - 10] or 'class'} ({number})" for number, name in plain.items()}
    return tuple(ClassCard(name=name, id=None if in_order else number) for number, name in plain.items())


def _readings(
    about: OnnxFile,
    size: tuple[int, int],
    shapes: Sequence[Shape],
    layout: Layout | None,
    names: Sequence[str],
    prompt: Prompt | None,
) -> list[_Reading]:
    """The ways to read outputs of ``shapes`` that names and metadata allow; ModelLoadError when there is none."""
    output_names = tuple(one.name for one in about.outputs)
    fitting: dict[Layout, Head] = {}
    classes: dict[Layout, tuple[ClassCard, ...]] = {}
    reasons: list[str] = []
    for each in [layout] if layout else layouts_to_try(about.metadata):
        cards = _classes(about, names, _columns(each, about, shapes))
        numbers = ClassNumbers(len(cards), tuple(card.id for card in cards if card.id is not None) or None)
        request = HeadRequest(*size, numbers, output_names, None if prompt is None else prompt.words)
        heads, why_not = fitting_heads([each], request, shapes, about.metadata)
        fitting.update(heads)
        reasons += why_not
        classes[each] = cards
    if not fitting:
        raise ModelLoadError(
            f"this model has {described(output_names, shapes)}, and that fits no layout looked for: "
            f"{'; '.join(reasons)}; export a detect model without further outputs, or state its classes with --classes"
        )
    return [_Reading(name, head, classes[name]) for name, head in narrowed(fitting, about.metadata).items()]


def _only_plausible(readings: Sequence[_Reading], prober: _Prober, size: tuple[int, int]) -> tuple[_Reading, str]:
    """The only reading that the model's answers do not contradict, and how it was found where shapes did not tell."""
    objections = {each.layout: objection(each.head, prober.run(_input(each.layout, size)), size) for each in readings}
    left = [each for each in readings if objections[each.layout] is None]
    if len(left) == 1:
        others = "; ".join(f"not {name}, because {why}" for name, why in objections.items() if why is not None)
        return left[0], f"layout: told from others of the same shape by a run ({others})" if others else ""
    if left:
        choices = " or ".join(f"--layout {each.layout} ({LAYOUTS[each.layout]})" for each in left)
        raise ModelLoadError(f"several layouts have such outputs and a run does not tell them apart; say {choices}")
    raise ModelLoadError(
        "this model is broken or of another layout: " + "; ".join(f"{name}: {why}" for name, why in objections.items())
    )
