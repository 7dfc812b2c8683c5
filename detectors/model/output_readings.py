"""Lists the layouts in which a model's outputs can be read, and finds the one that fits a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectors.card.card import BoxesCard, ClassCard, InputCard, Layout
from detectors.card.onnx_file import OnnxFile
from detectors.engines.inputs import BYTES, constant_inputs, image_input_of
from detectors.engines.port import EngineRequest
from detectors.engines.registry import load_engine
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import Outputs
from detectors.heads.choice import (
    LAYOUTS,
    NUMBERED,
    describe_outputs,
    fitting_heads,
    layouts_to_try,
    narrow_by_metadata,
    reasons_in_reach,
)
from detectors.heads.classes import ClassNumbers
from detectors.heads.families import UNDECODED, family_of
from detectors.heads.first_run import first_tiles, why_implausible
from detectors.heads.layouts.boxes_scores import find_outputs, guess_boxes
from detectors.heads.metadata import class_names
from detectors.heads.port import Head, HeadRequest, Shape
from detectors.heads.text import Prompt
from detectors.settings import EngineKind

LONGEST_NAME = 100
"""The longest name of a model or of a class in a card."""
_USUAL_CLASSES = 80
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# The layouts whose shapes do not show how many classes there are.
_WITHOUT_COLUMNS = NUMBERED | {"grounding_dino"}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

_TOP_LEFT = {"channels": "bgr", "scale": 1.0, "letterbox": "top_left"}

# The input that models of each layout are trained with; the defaults of a card where nothing is here.
_INPUTS: Mapping[Layout, Mapping[str, object]] = {
    "yolox": _TOP_LEFT,
    "yolox_decoded": _TOP_LEFT,
    "rtdetr": {"letterbox": "stretch"},
    "rfdetr": {**_IMAGENET, "letterbox": "stretch"},
    "grounding_dino": {**_IMAGENET, "letterbox": "stretch"},
    "tf_nms": {"letterbox": "stretch"},
}
_SSD: Mapping[str, object] = {"scale": 1.0, "mean": [127.0] * 3, "std": [128.0] * 3, "letterbox": "stretch"}
_LETTERBOXES = {
    "center": "centred letterbox padded with {pad}",
    "top_left": "letterbox at the top left padded with {pad}",
    "stretch": "stretched",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a model: a layout with its head and classes."""

    layout: Layout
    head: Head
    classes: tuple[ClassCard, ...]
    boxes: BoxesCard | None = None
    """How the outputs of layout boxes_scores are read"""


class Prober:
    """Runs one file on the first tiles, with different inputs."""

    def __init__(
        self, path: Path, about: OnnxFile, size: tuple[int, int], engine: EngineKind, prompt: Prompt | None
    ) -> None:
        self._path = path
        self._about = about
        self._size = size
        self._engine = engine
        self._prompt = prompt
        self._outputs: dict[InputCard, Outputs] = {}

    def input_of(self, layout: Layout, boxes: BoxesCard | None = None) -> InputCard:
        """Return the input of the file in ``layout``. See :func:`input_of`."""
        return input_of(layout, boxes, self._size, self._about, self._path)

    def run(self, card: InputCard) -> Outputs:
        """Return the outputs for the first tiles. Raises ModelLoadError when no engine can load or run the file."""
        if card not in self._outputs:
            constants = constant_inputs(self._about, card, self._path, self._prompt)
            request = EngineRequest(self._path, card, 1, "f32", constants=constants)
            try:
                engine = load_engine(self._engine, request)
            except ModelLoadError as error:
                raise ModelLoadError(f"{error}{self._about.graph.custom_text}") from error
            try:
                self._outputs[card] = engine.run(first_tiles(*self._size, card.pad))
            except InferenceError as error:
                width, height = self._size
                raise ModelLoadError(
                    f"{self._path} failed its first run with {width}×{height} pixels: {error}; "
                    "where the file leaves its input size open, state the right one with --size"
                ) from error
            finally:
                engine.close()
        return self._outputs[card]


def input_of(layout: Layout, boxes: BoxesCard | None, size: tuple[int, int], about: OnnxFile, path: Path) -> InputCard:
    """Return the input with which models of ``layout`` are usually trained, less what the file's graph does itself.

    Models with a background beside their classes, SSD and UltraFace, are trained with stretched images around zero.
    """
    usual = _SSD if boxes is not None and boxes.background != "none" else _INPUTS.get(layout, {})
    fields = {"width": size[0], "height": size[1], **usual}
    if _takes_bytes(about, path) or about.graph.pixels.normalises:
        fields = {key: value for key, value in fields.items() if key not in ("scale", *_IMAGENET)}
    if _takes_bytes(about, path):
        fields["scale"] = 1.0
    return InputCard.model_validate(fields)


def input_in_words(layout: Layout, card: InputCard, about: OnnxFile, path: Path) -> str:
    """Return the input of ``card`` as text, with what the file's graph does to pixels itself."""
    pixels = "pixels 0 to 255" if card.scale == 1 else "pixels 0 to 1"
    values = pixels
    if any(card.mean):
        around = f"pixels less {card.mean[0]:g}, divided by {card.std[0]:g}"
        values = around if card.scale == 1 else "ImageNet mean and standard deviation"
    box = _LETTERBOXES[card.letterbox].format(pad=card.pad)
    if layout == "rtdetr":
        box += " (a model trained with a letterbox wants letterbox: center)"
    usual = f"input: {card.channels.upper()}, {values}, {box}, as is usual for layout {layout}"
    graph = about.graph.pixels
    does = [f"scales them by {graph.factor:.4g}"] if graph.takes_bytes else []
    does += ["subtracts a mean"] if graph.normalises else []
    if not (_takes_bytes(about, path) or does):
        return usual
    kind = image_input_of(about.inputs, path).type
    itself = f" and {' and '.join(does)} itself" if does else ""
    return f"{usual}; the file takes pixels as {kind}{itself}"


def _takes_bytes(about: OnnxFile, path: Path) -> bool:
    """Return whether the graph takes pixels of 0 to 255 and scales them itself."""
    return image_input_of(about.inputs, path).type == BYTES or about.graph.pixels.takes_bytes


def columns(layout: Layout, about: OnnxFile, shapes: Sequence[Shape]) -> int | None:
    """Return how many classes outputs of ``shapes`` have in ``layout``; None when the shapes do not show it."""
    shape = shapes[0]
    if layout == "boxes_scores":
        at = find_outputs([one.name for one in about.outputs], shapes)
        return None if at is None else shapes[at[1]][2]
    if layout == "rfdetr":
        return next((shape[-1] for one, shape in zip(about.outputs, shapes, strict=True) if one.name == "labels"), None)
    if layout in _WITHOUT_COLUMNS or len(shape) != 3:
        return None
    if layout in ("yolov8", "yolov8_obb"):
        return max(1, shape[1] - (4 if layout == "yolov8" else 5))
    return max(1, shape[2] - 5)


def _classes(about: OnnxFile, names: Sequence[str], count: int | None, first: int) -> tuple[ClassCard, ...]:
    """Return classes with the caller's names, else the file's, else numbered ones; ``count``: as the outputs show.

    ``first``: the number of the first class in the model's output, where the file does not say.
    """
    given = dict(enumerate(names, first)) or class_names(about.metadata)
    if given is None:
        given = {number: f"class_{number}" for number in range(first, first + (count or _USUAL_CLASSES))}
    in_order = list(given) == list(range(len(given)))
    plain = {number: _plain(name) for number, name in given.items()}
    if len(set(plain.values())) < len(plain) or "" in plain.values():
        # With its number behind it no name can be that of another class.
        plain = {number: f"{name[: LONGEST_NAME - 10] or 'class'} ({number})" for number, name in plain.items()}
    return tuple(ClassCard(name=name, id=None if in_order else number) for number, name in plain.items())


def _plain(name: str) -> str:
    """Return ``name`` without what is no text (halves of characters) or is none in a line (control characters)."""
    text = name[:LONGEST_NAME].encode("utf-8", "replace").decode()
    return _CONTROL.sub(" ", text).strip()


def readings(
    about: OnnxFile,
    size: tuple[int, int],
    outputs: Outputs,
    layout: Layout | None,
    names: Sequence[str],
    prompt: Prompt | None,
) -> list[Reading]:
    """Return the ways to read ``outputs`` that fit names and metadata. Raises ModelLoadError without one."""
    output_names = tuple(one.name for one in about.outputs)
    shapes = [output.shape for output in outputs]
    boxes = _boxes(about, output_names, outputs, names)
    fitting: dict[Layout, Head] = {}
    classes: dict[Layout, tuple[ClassCard, ...]] = {}
    reasons: list[str] = []
    for each in [layout] if layout else layouts_to_try(about.metadata):
        count = columns(each, about, shapes)
        if count is not None and each == "boxes_scores" and boxes is not None and boxes.background != "none":
            count -= 1
        cards = _classes(about, names, count, 1 if each == "tf_nms" else 0)
        numbers = ClassNumbers(len(cards), tuple(card.id for card in cards if card.id is not None) or None)
        tokens = None if prompt is None else prompt.tokens
        request = HeadRequest(*size, numbers, output_names, tokens, boxes or BoxesCard())
        heads, why_not = fitting_heads([each], request, shapes, about.metadata)
        fitting.update(heads)
        reasons += why_not
        classes[each] = cards
    if not fitting:
        stated = layout is not None or names or class_names(about.metadata)
        raise _no_layout(about, output_names, shapes, size, reasons if stated else [], layout is None)
    return [
        Reading(name, head, classes[name], boxes if name == "boxes_scores" else None)
        for name, head in narrow_by_metadata(fitting, about.metadata).items()
    ]


def _no_layout(
    about: OnnxFile,
    names: Sequence[str],
    shapes: Sequence[Shape],
    size: tuple[int, int],
    reasons: Sequence[str],
    all_tried: bool,
) -> ModelLoadError:
    """Return the error for outputs that no layout reads: the family they resemble, and what to do."""
    family = family_of(names, shapes, size)
    parts = [] if family is None else [str(family)]
    parts += reasons_in_reach(reasons, shapes) if all_tried else reasons
    if family is None:
        parts.append("export a detect model without further outputs; docs/models.md lists what is read")
    has = describe_outputs(names, shapes)
    return ModelLoadError(f"this model has {has}, and that fits no layout looked for: {'; '.join(parts)}")


def _boxes(about: OnnxFile, output_names: Sequence[str], outputs: Outputs, names: Sequence[str]) -> BoxesCard | None:
    """Return how boxes beside scores are meant, or None for other outputs."""
    at = find_outputs(output_names, [output.shape for output in outputs])
    known = len(names) or len(class_names(about.metadata) or ()) or None
    return None if at is None else guess_boxes(outputs[at[0]], outputs[at[1]], known)


def require_one_plausible(found: Sequence[Reading], prober: Prober, size: tuple[int, int]) -> tuple[Reading, str]:
    """Return the only reading that fits a run, and a text on how it was found where shapes fit several.

    Raises ModelLoadError when none or several fit.
    """
    objections = {
        each.layout: why_implausible(each.head, prober.run(prober.input_of(each.layout, each.boxes)), size)
        for each in found
    }
    left = [each for each in found if objections[each.layout] is None]
    if len(left) == 1:
        others = "; ".join(f"not {name}: {why}" for name, why in objections.items() if why is not None)
        return left[0], f"layout: found by a run ({others})" if others else ""
    if left:
        choices = " or ".join(f"--layout {each.layout} ({LAYOUTS[each.layout]})" for each in left)
        raise ModelLoadError(f"several layouts have such outputs and a run does not distinguish them; state {choices}")
    hint = f"; {UNDECODED}" if "boxes_scores" in objections else ""
    raise ModelLoadError(
        "this model is broken or of another layout: "
        + "; ".join(f"{name}: {why}" for name, why in objections.items())
        + hint
    )
