"""The port every engine implements: uint8 tiles in, float32 outputs out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detectors.card.card import InputCard
from detectors.engines.inputs import ConstantInputs
from detectors.errors import ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.settings import Precision


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model: on which engine, in which precision, and with what ``streams`` and ``batch``."""

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
    """What an engine is asked to load.

    path: the ONNX file; input: how pixels become the model's input; threads: CPU threads to use, at least 1;
    precision: what it may compute in; why: the reason for this engine, in words; constants: what the model takes
    beside the picture; streams: runs of the graph side by side, 0 leaves it to the engine; batch: tiles per run of a
    graph that leaves their number open, 0 leaves it to the engine; cache: the folder for what takes an engine minutes
    to make, None for one in the user's home; exported: the program that torch exported from the same model, None where
    the card names none.
    """

    path: Path
    input: InputCard
    threads: int
    precision: Precision
    why: str = "asked for"
    constants: ConstantInputs = field(default_factory=dict)
    streams: int = 0
    batch: int = 0
    engines_folder: Path | None = None
    exported: Path | None = None

    def run_as(self, way: Way, why: str) -> EngineRequest:
        """The same request, to be run in ``way`` for the reason ``why``."""
        return replace(self, precision=way.precision, streams=way.streams, batch=way.batch, why=why)


class Engine(Protocol):
    """A loaded model. ``run`` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """For example ``openvino``."""
        ...

    @property
    def reason(self) -> str:
        """Why this engine was chosen, and how it computes (precision, threads), in words."""
        ...

    @property
    def batch_size(self) -> int:
        """Tiles per ``run`` it is fastest with; any other number works too."""
        ...

    @property
    def parallel(self) -> int:
        """How many ``run`` calls at a time, from threads of their own, keep it busy."""
        ...

    def run(self, tiles: ImageArray) -> Outputs:
        """The model's outputs for ``tiles``: uint8 (N, height, width, 3) BGR, contiguous, N >= 1.

        Returns float32 arrays whose first axis is N. Raises InferenceError when the engine fails.
        """
        ...

    def close(self) -> None:
        """Give threads and memory back; no ``run`` may be under way or follow."""
        ...


def fixed_batch(shape: list[int | None], card: InputCard, path: Path, wanted: int = 0) -> int:
    """The batch size to run an input of ``shape`` with (None: dynamic): its own when fixed, else ``wanted`` or 1.

    Raises ModelLoadError when the input is not (N, 3, height, width) of the card.
    """
    sides = (3, card.height, card.width)
    fits = len(shape) == 4 and all(have in (None, want) for have, want in zip(shape[1:], sides, strict=True))
    if not fits:
        raise ModelLoadError(
            f"{path} takes input {shape}, the card says (N, 3, {card.height}, {card.width}): "
            "correct input.width and input.height in the card"
        )
    return shape[0] or wanted or 1


def find_image_input(names: Sequence[Collection[str]], constants: ConstantInputs, path: Path) -> int:
    """Which of a model's inputs takes the picture: the one that ``constants`` does not have.

    ``names``: those each input has. Raises ModelLoadError when it is not exactly one.
    """
    pictures = [index for index, each in enumerate(names) if not any(name in constants for name in each)]
    if len(pictures) != 1:
        listed = ", ".join("/".join(sorted(each)) for each in names)
        raise ModelLoadError(f"{path} takes {len(names)} inputs ({listed}); exactly one must take the picture")
    return pictures[0]


def repeat_for_batch(value: npt.NDArray[np.generic], batch: int) -> npt.NDArray[np.generic]:
    """``value``, the same for every tile, for a ``batch`` of them: one axis more, contiguous."""
    return np.ascontiguousarray(np.broadcast_to(value, (batch, *value.shape)))
