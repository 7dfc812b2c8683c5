"""Inspects an ONNX file by reading and running it, and makes a card for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import yaml

from detectors.card.card import Layout, ModelCard, ThresholdCard, TilingCard
from detectors.card.onnx_file import OnnxFile, TensorInfo, read_onnx_file
from detectors.engines.inputs import image_input_of, require_colour_image, takes_text
from detectors.errors import ModelLoadError
from detectors.heads.metadata import class_names, input_size
from detectors.heads.text import PromptForFile, text_beside
from detectors.model.least_confidence import least_confidence, least_confidence_text
from detectors.model.output_readings import (
    LONGEST_NAME,
    Prober,
    Reading,
    columns,
    input_in_words,
    input_of,
    readings,
    require_one_plausible,
)
from detectors.settings import EngineKind
from infra.written_files import write_whole

_USUAL_SIDE = 640
# Of a model that takes text.
_USUAL_SIDE_ASKED = 800
_EVERYDAY = {"person", "bus", "dog", "chair"}
_SMALLEST_SIDE, _LARGEST_SIDE = 32, 8192


@dataclass(frozen=True, slots=True)
class Inspection:
    """Holds what is known about a model file."""

    about: OnnxFile
    outputs: tuple[TensorInfo, ...]
    """The outputs with their shapes in a run; the first axis is that of tiles."""
    card: ModelCard
    """A card with which the model loads."""
    assumed: tuple[str, ...]
    """Texts about what the card states although the file does not."""


def inspect_model(
    path: Path,
    layout: Layout | None = None,
    names: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    engine: EngineKind = "auto",
    name: str | None = None,
) -> Inspection:
    """Inspect the ONNX file at ``path``.

    ``name``: of the model in the card; None takes the file's. ``layout``, class ``names`` and the input's ``size``
    (width and height in pixels, where the file leaves it open) are what the caller knows. Raises ModelLoadError when
    the file cannot be read or run, fits no layout, or fits several that a run cannot distinguish.
    """
    about = read_onnx_file(path)
    size, assumed = _size(about, path, size)
    asked = _asked(about, path, names)
    prompt = None if asked is None else asked.prompt
    prober = Prober(path, about, size, engine, prompt)
    outputs = prober.run(prober.input_of("yolov8"))
    shapes = [output.shape for output in outputs]
    found = readings(about, size, outputs, layout, names, prompt)
    reading, how = require_one_plausible(found, prober, size)
    if layout is None and how:
        assumed.append(how)
    if not names and class_names(about.metadata) is None:
        known = "" if columns(reading.layout, about, shapes) else ", nor how many they are"
        assumed.append(f"classes: the file does not name them{known}; correct the {len(reading.classes)} in the card")
    if asked is not None:
        text = asked.text
        assumed.append(
            f"text: the tokenizer is the {text.tokenizer} beside the file; words count from {text.threshold}"
        )
    assumed.append(input_in_words(reading.layout, prober.input_of(reading.layout, reading.boxes), about, path))
    if (least := least_confidence(about)) is not None:
        assumed.append(f"thresholds: {least_confidence_text(least)}")
    if not about.metadata.get("license"):
        assumed.append("licence: unknown, the file does not state one")
    assumed.append("name and version: the file's name, and 1.0.0" if name is None else "version: 1.0.0")
    if _is_everyday(reading):
        assumed.append(
            "tiling: a pass over the whole picture, too, because the classes are those of everyday photographs"
        )
    true_outputs = tuple(
        TensorInfo(one.name, one.type, (None, *shape[1:])) for one, shape in zip(about.outputs, shapes, strict=True)
    )
    return Inspection(about, true_outputs, _card(path, about, reading, size, asked, name), tuple(assumed))


def _asked(about: OnnxFile, path: Path, names: Sequence[str]) -> PromptForFile | None:
    """Return the prompt of a model that takes text, else None. Raises ModelLoadError when ``names`` are missing."""
    if not takes_text(about):
        return None
    if not names:
        raise ModelLoadError(f"{path} takes text; name the objects to find, with --classes drone,small boat")
    return text_beside(path, names)


def _card(
    path: Path,
    about: OnnxFile,
    reading: Reading,
    size: tuple[int, int],
    asked: PromptForFile | None,
    name: str | None,
) -> ModelCard:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:LONGEST_NAME]
    least = least_confidence(about)
    return ModelCard(
        name=name or plain or "model",
        version="1.0.0",
        file=path.name,
        sha256=_checksum(path),
        layout=reading.layout,
        input=input_of(reading.layout, reading.boxes, size, about, path),
        classes=reading.classes,
        text=None if asked is None else asked.text,
        boxes=reading.boxes,
        thresholds=ThresholdCard(confidence=max(ThresholdCard().confidence, round(least or 0.0, 4))),
        tiling=TilingCard(whole_frame=_is_everyday(reading)),
        files=_weights_beside(path, about) | ({} if asked is None else dict(asked.files)),
        licence=about.metadata.get("license") or "unknown",
    )


def _is_everyday(reading: Reading) -> bool:
    """Return whether the classes are those of photographs of everyday life (COCO), where things fill the picture."""
    return {one.name for one in reading.classes} >= _EVERYDAY


def _weights_beside(path: Path, about: OnnxFile) -> dict[str, str]:
    """Return the separate weight files of an ONNX file over 2 GB, with their checksums."""
    return {name: _checksum(path.parent / name) for name in about.external_data}


def write_card(inspection: Inspection, folder: Path, name: str | None = None) -> Path:
    """Write the card as ``model.yaml``, or ``<name>.yaml``, into ``folder``; return its path.

    Raises ModelLoadError when the file exists; it is never changed.
    """
    path = folder / f"{name or 'model'}.yaml"
    fields = inspection.card.model_dump(mode="json", exclude_none=True, exclude={"training"})
    notes = "".join(f"# Assumed: {each}\n" for each in inspection.assumed)
    text = notes + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    try:
        # The name is taken first, so that nothing that exists is replaced.
        path.open("x").close()
        try:
            write_whole(path, text.encode())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        model = inspection.card.file
        raise ModelLoadError(
            f"{path} exists and is not changed; for a second model in one folder give its card a name of its own: "
            f"--name {Path(model).stem if name is None else f'{name}-2'}; or move {path.name} away to get a new one"
        ) from error
    except OSError as error:
        raise ModelLoadError(
            f"{path} cannot be written ({error.strerror}); copy the model to another folder"
        ) from error
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _size(about: OnnxFile, path: Path, given: tuple[int, int] | None) -> tuple[tuple[int, int], list[str]]:
    """Return the input's width and height, and assumptions about them; ``given`` fills what the file leaves open."""
    shape = image_input_of(about.inputs, path).shape
    height, width = shape[1:3] if require_colour_image(shape, path) else shape[2:]
    stated = given or input_size(about.metadata)
    side = _USUAL_SIDE_ASKED if takes_text(about) else _USUAL_SIDE
    usual = stated or (side, side)
    found = (width or usual[0], height or usual[1])
    if not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in found):
        raise ModelLoadError(
            f"{path} takes images of {found[0]}×{found[1]} pixels; sides from {_SMALLEST_SIDE} to {_LARGEST_SIDE} fit"
        )
    if given is not None and found != given:
        raise ModelLoadError(f"{path} takes images of {found[0]}×{found[1]} pixels; leave --size out")
    if (width and height) or stated:
        return found, []
    return found, [f"input size: the file leaves it open, {found[0]}×{found[1]} is usual"]
