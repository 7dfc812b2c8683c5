"""Defines the result of a benchmark: figures, their goals, and notes on how they were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

RATIO = "×"
"""The unit of a ratio; ratios are what can be compared between machines."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Says what a figure should reach, or stay below."""

    bound: float
    kind: Literal["at least", "below"] = "at least"

    def met_by(self, value: float) -> bool:
        """Return whether ``value`` meets the goal."""
        return value >= self.bound if self.kind == "at least" else value < self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """Holds one number, its name and unit, and its goal if it has one. ``value`` None: it cannot be measured here."""

    name: str
    value: float | None
    unit: str
    goal: Goal | None = None

    @property
    def passed(self) -> bool | None:
        """Return whether the goal is met; None without a goal, or without a measurement."""
        return None if self.goal is None or self.value is None else self.goal.met_by(self.value)


@dataclass(frozen=True, slots=True)
class Result:
    """Holds all figures of one benchmark. ``notes`` say what a reader must know to judge them."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    @property
    def ratios(self) -> dict[str, float]:
        """Return the figures that compare, by name."""
        return {one.name: one.value for one in self.figures if one.unit == RATIO and one.value is not None}

    @property
    def passed(self) -> bool:
        """Return whether every goal is met."""
        return all(figure.passed is not False for figure in self.figures)

    @property
    def command(self) -> str:
        """Return the command that measures it again."""
        return f"python -m bench {self.name}"

    def as_json(self) -> dict[str, object]:
        """Return the result for scripts."""
        figures = [{**asdict(figure), "passed": figure.passed} for figure in self.figures]
        return {
            "name": self.name,
            "title": self.title,
            "command": self.command,
            "passed": self.passed,
            "ratios": self.ratios,
            "figures": figures,
            "notes": list(self.notes),
        }


Bench = Callable[[bool], Result]
"""A benchmark: called with whether to be quick, which means smaller and less exact."""
