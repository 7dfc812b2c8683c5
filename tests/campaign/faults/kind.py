"""Defines a fault, and a kind of faults with its targets and frequency."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

EVERYTHING = "everything"
"""The lock of a fault that must be alone: it waits until all others have ended, and all others wait for it."""


class Fault(Protocol):
    """Starts and ends one fault."""

    @property
    def name(self) -> str:
        """The kind and its target."""
        ...

    async def start(self) -> None:
        """Start the fault."""

    async def end(self) -> None:
        """End the fault; also called when ``start`` failed before its end."""


@dataclass(frozen=True)
class Kind:
    """Describes one kind of faults: its targets, duration and frequency."""

    name: str
    targets: tuple[str, ...]
    hold_s: tuple[float, float]
    make: Callable[[str, random.Random], Fault]
    weight: float = 1.0
    """How often it is drawn, compared with the other kinds."""
    occupies: Callable[[str], str] = str
    """The lock of a target, which two faults never hold at the same time (by default the target itself)."""
    at_most: int | None = None
    """The maximum number in one campaign."""


def aspect(name: str) -> Callable[[str], str]:
    """Lock only one aspect of a process, for example its clock, so that its other faults may overlap."""
    return lambda target: f"{name} of {target}"


def whole(name: str) -> Callable[[str], str]:
    """Lock the same name for all targets."""
    return lambda target: name
