"""Defines the port of a head: it knows one export layout and reads boxes from a model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from detectors.card.card import BoxesCard
from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.classes import ClassNumbers

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Says which tokens of a prompt belong to which class."""

    spans: tuple[tuple[int, int], ...]
    """For each class the place of its first token, and the place after its last"""
    length: int
    """The number of all tokens"""
    threshold: float
    """A token belongs to a box from this score on (0..1)"""


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """Says what a head is built for."""

    width: int
    """Of the model's input in pixels"""
    height: int
    """Of the model's input in pixels"""
    classes: ClassNumbers
    """The card's classes and their numbers in the model's output"""
    outputs: tuple[str, ...] = ()
    """The names of the model's outputs, in their order"""
    prompt: PromptTokens | None = None
    """Of a model that takes a text prompt"""
    boxes: BoxesCard = field(default_factory=BoxesCard)
    """How the outputs of layout boxes_scores are read"""


class Head(Protocol):
    """Reads one export layout. Built for an input size and classes; keeps no state between calls."""

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """Return what this layout's outputs look like when ``shapes`` (first axis: the tile) do not fit, else None."""
        ...

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """Return all boxes with a score of at least ``confidence`` (0..1), before any suppression.

        Raises InferenceError when scores or boxes are not numbers, or a class is not in the card.
        """
        ...
