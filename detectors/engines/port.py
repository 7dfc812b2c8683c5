"""Defines the port that every engine implements: uint8 tiles in, float32 outputs out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detectors.card.card import InputCard
from detectors.engines.inputs import ConstantInputs, require_colour_image
from detectors.errors import ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.settings import Precision


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model: an engine with a precision, a number of ``streams`` and a ``batch`` size."""

    engine: str
    precision: Precision
    streams: int = 0
    batch: int = 0

    def __str__(self) -> str:
        parts = [self.engine, self.precision]
        if self.streams:
            parts.append("1 stream" if self.streams == 1 else f"{self.streams} streams")
        if self.batch:
            parts.append(f"batch {self.batch}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Says what an engine is to load, and how it is to run."""

    path: Path
    """The ONNX file."""
    input: InputCard
    """How pixels become the model's input."""
    threads: int
    """CPU threads to use, at least 1."""
    precision: Precision
    """The precision in which the engine may compute."""
    why: str = "requested"
    """The reason for this engine, as text."""
    constants: ConstantInputs = field(default_factory=dict)
    """The values of the inputs other than the image."""
    streams: int = 0
    """Number of parallel runs of the graph; 0 leaves it to the engine."""
    batch: int = 0
    """Tiles per run of a graph that leaves their number open; 0 leaves it to the engine."""
    engines_folder: Path | None = None
    """The folder for files that an engine needs minutes to build; None for one in the user's home."""
    exported: Path | None = None
    """The program that torch exported from the same model; None where the card names none."""

    def run_as(self, way: Way, why: str) -> EngineRequest:
        """Return the same request, to be run in ``way`` for the reason ``why``."""
        return replace(self, precision=way.precision, streams=way.streams, batch=way.batch, why=why)


class Engine(Protocol):
    """A loaded model. ``run`` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """For example ``openvino``."""
        ...

    @property
    def reason(self) -> str:
        """Text that says why this engine was chosen, and how it computes (precision, threads)."""
        ...

    @property
    def batch_size(self) -> int:
        """Number of tiles per ``run`` with which it is fastest; any other number works too."""
        ...

    @property
    def parallel(self) -> int:
        """Number of parallel ``run`` calls, from separate threads, that keep it busy."""
        ...

    def run(self, tiles: ImageArray) -> Outputs:
        """Return the model's outputs for ``tiles``: uint8 (N, height, width, 3) BGR, contiguous, N >= 1.

        They are float32 arrays whose first axis is N. Raises InferenceError when the engine fails.
        """
        ...

    def close(self) -> None:
        """Release threads and memory; no ``run`` may be in progress or follow."""
        ...


@dataclass(frozen=True, slots=True)
class ImageAxes:
    """Says how a graph takes its image."""

    batch: int
    """Tiles per run"""
    channels_last: bool
    """Whether the input is (N, height, width, 3), as TensorFlow's are, instead of (N, 3, height, width)"""


def image_axes(shape: Sequence[int | None], card: InputCard, path: Path, wanted: int = 0) -> ImageAxes:
    """Return how an input of ``shape`` (None: open) takes tiles, in batches of its own size, else ``wanted``, else 1.

    Raises ModelLoadError when the input is not that of the card.
    """
    last = require_colour_image(shape, path)
    sides = (card.height, card.width, 3) if last else (3, card.height, card.width)
    if not all(have in (None, want) for have, want in zip(shape[1:], sides, strict=True)):
        raise ModelLoadError(
            f"{path} takes input {list(shape)}, the card says (N, {', '.join(map(str, sides))}): "
            "correct input.width and input.height in the card"
        )
    return ImageAxes(shape[0] or wanted or 1, last)


def find_image_input(names: Sequence[Collection[str]], constants: ConstantInputs, path: Path) -> int:
    """Return the index of the input that takes the image: the one that ``constants`` does not have.

    ``names``: the names of each input. Raises ModelLoadError when it is not exactly one.
    """
    images = [index for index, each in enumerate(names) if not any(name in constants for name in each)]
    if len(images) != 1:
        listed = ", ".join("/".join(sorted(each)) for each in names)
        raise ModelLoadError(f"{path} takes {len(names)} inputs ({listed}); exactly one must take the image")
    return images[0]


def repeat_for_batch(value: npt.NDArray[np.generic], batch: int) -> npt.NDArray[np.generic]:
    """Return ``value`` repeated for each tile of a ``batch``: one axis more, contiguous."""
    return np.ascontiguousarray(np.broadcast_to(value, (batch, *value.shape)))
