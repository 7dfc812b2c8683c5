"""What a fault is, and what a kind of faults tells the schedule."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

EVERYTHING = "everything"
"""What a fault occupies that must be alone: it waits until all others are healed, and all others wait for it."""


class Fault(Protocol):
    """Something that goes wrong, and ends."""

    @property
    def name(self) -> str:
        """The kind, and what it hits."""
        ...

    async def strike(self) -> None:
        """Let it happen."""

    async def heal(self) -> None:
        """Let it end; also when ``strike`` failed half way."""


@dataclass(frozen=True)
class Kind:
    """One kind of faults: whom it can hit, for how long, and how often compared with the others.

    ``occupies`` tells what of a target two faults must not have at the same time (by default the target itself).
    """

    name: str
    targets: tuple[str, ...]
    hold_s: tuple[float, float]
    make: Callable[[str, random.Random], Fault]
    weight: float = 1.0
    occupies: Callable[[str], str] = str
    at_most: int | None = None
    """How often in one campaign."""


def aspect(name: str) -> Callable[[str], str]:
    """What of a process is occupied when its other faults may overlap with this one, for example its clock."""
    return lambda target: f"{name} of {target}"


def whole(what: str) -> Callable[[str], str]:
    """All targets occupy one thing together."""
    return lambda target: what
