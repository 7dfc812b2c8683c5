"""What a model takes beside the picture: the same for every tile, so it is made once, when the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detectors.card import InputCard
from detectors.errors import ModelLoadError
from detectors.onnx_file import OnnxFile, TensorInfo

ConstantInputs = Mapping[str, npt.NDArray[np.generic]]
"""By the input's name: its value for one tile, without the axis of tiles."""

SIZES_INPUT = "orig_target_sizes"
"""Some transformers want to know the size boxes are wanted in: int64 (N, 2), width and height."""


def constant_inputs(about: OnnxFile, card: InputCard, path: Path) -> ConstantInputs:
    """The value of every input but the picture, for the model at ``path``.

    ``orig_target_sizes`` is the input's own width and height, so that boxes come in pixels of the input. Raises
    ModelLoadError when the model takes something else, or of another type than it can be given.
    """
    found: dict[str, npt.NDArray[np.generic]] = {}
    for one in about.inputs:
        if one.name == SIZES_INPUT:
            _require_type(one, "int64", path)
            found[one.name] = np.array([card.width, card.height], np.int64)
    picture_of(about.inputs, path)
    return found


def picture_of(inputs: Sequence[TensorInfo], path: Path) -> TensorInfo:
    """Which of a model's ``inputs`` takes the picture. Raises ModelLoadError when it takes what nobody can give."""
    pictures = [one for one in inputs if one.name != SIZES_INPUT]
    if len(pictures) != 1:
        listed = ", ".join(one.name for one in inputs)
        raise ModelLoadError(
            f"{path} takes {len(inputs)} inputs ({listed}); one picture is expected, beside it at most {SIZES_INPUT}"
        )
    return pictures[0]


def _require_type(one: TensorInfo, wanted: str, path: Path) -> None:
    if one.type != wanted:
        raise ModelLoadError(f"{path} takes {one.name} as {one.type}; export it with {one.name} as {wanted}")
