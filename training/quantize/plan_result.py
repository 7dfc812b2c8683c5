"""What is asked of a quantization, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.quantize.graph import Target


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """What to quantize, with what, and what it may cost.

    card: of the f32 model; frames: a folder of pictures; max_loss: see Outcome.loss; output: the folder of the new
    version, None puts it beside the model's own; target: see Target; threads: of each engine, 0 takes all; max_pixels:
    of one picture.
    """

    card: Path
    frames: Path
    max_loss: float = 0.02
    output: Path | None = None
    target: Target = "cpu"
    threads: int = 0
    max_pixels: int = 200_000_000


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One engine's: boxes found in f32 and INT8, loss = 1 - agreement of these; tiles per second in both, where they
    were measured."""

    engine: str
    boxes_f32: int
    boxes_int8: int
    loss: float
    tiles_per_s_f32: float | None = None
    tiles_per_s_int8: float | None = None


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What one way to quantize gave: its largest loss over the engines, or why it gave nothing (then loss is 1)."""

    words: str
    loss: float
    engines: tuple[EngineFigures, ...] = ()
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was made: outcomes in the order they were tried, best: the one with the least loss, the first of equal ones;
    card: of the new version, None when the loss is above the limit."""

    name: str
    version: str
    target: Target
    max_loss: float
    frames: int
    calibration_tiles: int
    held_out_tiles: int
    outcomes: tuple[PlanResult, ...]
    best: PlanResult
    card: Path | None = field(default=None)

    @property
    def accepted(self) -> bool:
        """Whether the loss is within the limit and a new version was written."""
        return self.card is not None
