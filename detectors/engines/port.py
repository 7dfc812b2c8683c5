"""The port every engine implements: uint8 tiles in, float32 outputs out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from detectors.arrays import ImageArray, IndexArray, Outputs
from detectors.card import InputCard, Precision
from detectors.errors import ModelLoadError

SIZES_INPUT = "orig_target_sizes"
"""A second input some transformers have: int64 (N, 2), the width and height boxes are wanted in."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine is asked to load.

    path: the ONNX file; input: how pixels become the model's input; threads: CPU threads to use, at least 1;
    precision: what it may compute in; why: the reason for this engine, in words.
    """

    path: Path
    input: InputCard
    threads: int
    precision: Precision
    why: str = "asked for"


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


def fixed_batch(shape: list[int | None], card: InputCard, path: Path) -> int:
    """The batch size to run an input of ``shape`` with (None: dynamic): its own when fixed, else 1.

    Raises ModelLoadError when the input is not (N, 3, height, width) of the card.
    """
    wanted = (3, card.height, card.width)
    fits = len(shape) == 4 and all(have in (None, want) for have, want in zip(shape[1:], wanted, strict=True))
    if not fits:
        raise ModelLoadError(
            f"{path} takes input {shape}, the card says (N, 3, {card.height}, {card.width}): "
            "correct input.width and input.height in the card"
        )
    return shape[0] or 1


def picture_and_sizes(names: Sequence[Collection[str]], path: Path) -> tuple[int, int | None]:
    """Which of a model's inputs takes the picture, and which the sizes, if any; ``names``: those each input has.

    Raises ModelLoadError when the model takes anything else.
    """
    pictures = [index for index, each in enumerate(names) if SIZES_INPUT not in each]
    sizes = [index for index, each in enumerate(names) if SIZES_INPUT in each]
    if len(pictures) != 1 or len(sizes) > 1:
        listed = ", ".join("/".join(sorted(each)) for each in names)
        raise ModelLoadError(
            f"{path} takes {len(names)} inputs ({listed}); one picture is expected, beside it at most {SIZES_INPUT}"
        )
    return pictures[0], sizes[0] if sizes else None


def require_int64(is_int64: bool, path: Path) -> None:
    """Raises ModelLoadError when the sizes a model takes are of another type than they are given in."""
    if not is_int64:
        raise ModelLoadError(f"{path} takes {SIZES_INPUT} that are not int64; export it with int64 sizes")


def input_sizes(card: InputCard, batch: int) -> IndexArray:
    """int64 (batch, 2): for every tile the input's own width and height, so that boxes come in pixels of the input."""
    return np.array([[card.width, card.height]] * batch, np.int64)
