"""Lists the layouts in which a model's outputs can be read, and finds the one that fits a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectors.card.card import ClassCard, InputCard, Layout
from detectors.card.onnx_file import OnnxFile
from detectors.engines.inputs import BYTES, constant_inputs, image_input_of
from detectors.engines.port import EngineRequest
from detectors.engines.registry import load_engine
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import Outputs
from detectors.heads.choice import LAYOUTS, describe_outputs, fitting_heads, layouts_to_try, narrow_by_metadata
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, why_implausible
from detectors.heads.metadata import class_names
from detectors.heads.port import Head, HeadRequest, Shape
from detectors.heads.text import Prompt
from detectors.settings import EngineKind

LONGEST_NAME = 100
"""The longest name of a model or of a class in a card."""
_USUAL_CLASSES = 80
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

_TOP_LEFT = {"channels": "bgr", "scale": 1.0, "letterbox": "top_left"}

# The input that models of each layout are trained with; the defaults of a card where nothing is here.
_INPUTS: Mapping[Layout, Mapping[str, object]] = {
    "yolox": _TOP_LEFT,
    "yolox_decoded": _TOP_LEFT,
    "rtdetr": {"letterbox": "stretch"},
    "rfdetr": {**_IMAGENET, "letterbox": "stretch"},
    "grounding_dino": {**_IMAGENET, "letterbox": "stretch"},
}
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

    def input_of(self, layout: Layout) -> InputCard:
        """Return the input of the file in ``layout``. See :func:`input_of`."""
        return input_of(layout, self._size, self._about, self._path)

    def run(self, card: InputCard) -> Outputs:
        """Return the outputs for the first tiles. Raises ModelLoadError when no engine can load or run the file."""
        if card not in self._outputs:
            constants = constant_inputs(self._about, card, self._path, self._prompt)
            engine = load_engine(self._engine, EngineRequest(self._path, card, 1, "f32", constants=constants))
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


def input_of(layout: Layout, size: tuple[int, int], about: OnnxFile, path: Path) -> InputCard:
    """Return the input with which models of ``layout`` are usually trained, less what the file's graph does itself."""
    fields = {"width": size[0], "height": size[1], **_INPUTS.get(layout, {})}
    if _takes_bytes(about, path):
        fields["scale"] = 1.0
    if _takes_bytes(about, path) or about.graph.pixels.normalises:
        fields = {key: value for key, value in fields.items() if key not in _IMAGENET}
    return InputCard.model_validate(fields)


def input_in_words(layout: Layout, card: InputCard, about: OnnxFile, path: Path) -> str:
    """Return the input of ``card`` as text, with what the file's graph does to pixels itself."""
    pixels = "pixels 0 to 255" if card.scale == 1 else "pixels 0 to 1"
    values = "ImageNet mean and standard deviation" if any(card.mean) else pixels
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
    if layout == "rfdetr":
        return next((shape[-1] for one, shape in zip(about.outputs, shapes, strict=True) if one.name == "labels"), None)
    if layout in ("nms_inside", "nms_inside_obb", "rtdetr", "grounding_dino") or len(shape) != 3:
        return None
    if layout in ("yolov8", "yolov8_obb"):
        return max(1, shape[1] - (4 if layout == "yolov8" else 5))
    return max(1, shape[2] - 5)


def _classes(about: OnnxFile, names: Sequence[str], count: int | None) -> tuple[ClassCard, ...]:
    """Return classes with the caller's names, else the file's, else numbered ones; ``count``: as the outputs show."""
    given = dict(enumerate(names)) or class_names(about.metadata)
    if given is None:
        given = {number: f"class_{number}" for number in range(count or _USUAL_CLASSES)}
    in_order = list(given) == list(range(len(given)))
    plain = {number: name[:LONGEST_NAME].strip() for number, name in given.items()}
    if len(set(plain.values())) < len(plain) or "" in plain.values():
        # With its number behind it no name can be that of another class.
        plain = {number: f"{name[: LONGEST_NAME - 10] or 'class'} ({number})" for number, name in plain.items()}
    return tuple(ClassCard(name=name, id=None if in_order else number) for number, name in plain.items())


def readings(
    about: OnnxFile,
    size: tuple[int, int],
    shapes: Sequence[Shape],
    layout: Layout | None,
    names: Sequence[str],
    prompt: Prompt | None,
) -> list[Reading]:
    """Return the ways to read outputs of ``shapes`` that fit names and metadata. Raises ModelLoadError without one."""
    output_names = tuple(one.name for one in about.outputs)
    fitting: dict[Layout, Head] = {}
    classes: dict[Layout, tuple[ClassCard, ...]] = {}
    reasons: list[str] = []
    for each in [layout] if layout else layouts_to_try(about.metadata):
        cards = _classes(about, names, columns(each, about, shapes))
        numbers = ClassNumbers(len(cards), tuple(card.id for card in cards if card.id is not None) or None)
        request = HeadRequest(*size, numbers, output_names, None if prompt is None else prompt.tokens)
        heads, why_not = fitting_heads([each], request, shapes, about.metadata)
        fitting.update(heads)
        reasons += why_not
        classes[each] = cards
    if not fitting:
        raise ModelLoadError(
            f"this model has {describe_outputs(output_names, shapes)}, and that fits no layout looked for: "
            f"{'; '.join(reasons)}; export a detect model without further outputs, or state its classes with --classes"
        )
    return [Reading(name, head, classes[name]) for name, head in narrow_by_metadata(fitting, about.metadata).items()]


def require_one_plausible(found: Sequence[Reading], prober: Prober, size: tuple[int, int]) -> tuple[Reading, str]:
    """Return the only reading that fits a run, and a text on how it was found where shapes fit several.

    Raises ModelLoadError when none or several fit.
    """
    objections = {
        each.layout: why_implausible(each.head, prober.run(prober.input_of(each.layout)), size) for each in found
    }
    left = [each for each in found if objections[each.layout] is None]
    if len(left) == 1:
        others = "; ".join(f"not {name}: {why}" for name, why in objections.items() if why is not None)
        return left[0], f"layout: found by a run ({others})" if others else ""
    if left:
        choices = " or ".join(f"--layout {each.layout} ({LAYOUTS[each.layout]})" for each in left)
        raise ModelLoadError(f"several layouts have such outputs and a run does not distinguish them; state {choices}")
    raise ModelLoadError(
        "this model is broken or of another layout: " + "; ".join(f"{name}: {why}" for name, why in objections.items())
    )
