"""Defines the request and the result of a quantization."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.quantize.graph import Target


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """Says what to quantize, with which pictures, and how much may be lost."""

    card: Path
    """The card of the f32 model"""
    frames: Path
    """A folder of pictures"""
    max_loss: float = 0.02
    """The largest :attr:`PlanResult.loss` that is accepted"""
    output: Path | None = None
    """The folder of the new version; None: next to the model's folder"""
    target: Target = "cpu"
    threads: int = 0
    """Threads of each engine; 0: all"""
    max_pixels: int = 200_000_000
    """The largest number of pixels of one picture"""


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """Compares f32 and INT8 in one engine."""

    engine: str
    boxes_f32: int
    boxes_int8: int
    loss: float
    """1 - agreement of the boxes of both"""
    tiles_per_s_f32: float | None = None
    """None: not measured"""
    tiles_per_s_int8: float | None = None
    """None: not measured"""


@dataclass(frozen=True, slots=True)
class PlanResult:
    """Holds the result of one plan to quantize."""

    words: str
    """The plan as text"""
    loss: float
    """The largest loss over the engines; 1 if it failed"""
    engines: tuple[EngineFigures, ...] = ()
    failed: str | None = None
    """Why it failed; None: it did not"""


@dataclass(frozen=True, slots=True)
class Quantized:
    """Holds the result of a quantization."""

    name: str
    version: str
    target: Target
    max_loss: float
    frames: int
    calibration_tiles: int
    held_out_tiles: int
    outcomes: tuple[PlanResult, ...]
    """Results in the order in which plans were tried"""
    best: PlanResult
    """The result with the least loss, the first of equal ones"""
    card: Path | None = field(default=None)
    """The card of the new version; None: the loss is above the limit"""

    @property
    def accepted(self) -> bool:
        """Whether the loss is within the limit and a new version was written."""
        return self.card is not None
