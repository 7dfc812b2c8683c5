"""Defines the port of a head: it knows one export layout and reads boxes from a model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.classes import ClassNumbers

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """What a model asked in words was asked.

    spans: for each class the place of its first token and the one after its last; length: tokens in all; threshold: a
    word belongs to a box from this score on (0..1).
    """

    spans: tuple[tuple[int, int], ...]
    length: int
    threshold: float


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """What a head is built for.

    width, height: of the model's input in pixels; classes: the card's classes and their numbers in the model's output;
    outputs: the names of the model's outputs, in their order; words: of a model that is asked in words.
    """

    width: int
    height: int
    classes: ClassNumbers
    outputs: tuple[str, ...] = ()
    prompt: PromptTokens | None = None


class Head(Protocol):
    """Reads one export layout. Built for an input size and classes; keeps no state between calls."""

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """What this layout's outputs look like when those of ``shapes`` (the first axis is the tile) are not of it,
        or None when they are."""
        ...

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """All boxes with a score of at least ``confidence`` (0..1), before any suppression.

        Raises InferenceError when scores or boxes are not numbers, or a class is none of the card's.
        """
        ...
