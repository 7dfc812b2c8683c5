"""Defines what the console needs of others: the rules and model versions that jobs may name, and the detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.event_base import ModelRef


class RulesLibrary(Protocol):
    """Knows the rules that the operator has installed, and checks texts of rules."""

    async def find(self, name: str) -> str | None:
        """Return the text of the rules called ``name``; None where there are none."""
        ...

    async def fault(self, text: str) -> str | None:
        """Return what is wrong with ``text``, with its line; None when nothing is."""
        ...


class NoRules:
    """Has no installed rules, and finds no fault: the detector that evaluates a text reports its faults."""

    async def find(self, name: str) -> str | None:
        """Return None."""
        del name
        return None

    async def fault(self, text: str) -> str | None:
        """Return None."""
        del text
        return None


class ModelNames(Protocol):
    """Knows the versions in the model store, and those that detectors use."""

    async def versions(self) -> Sequence[ModelRef] | None:
        """Return all versions; None when they cannot be known now."""
        ...

    async def active(self) -> Sequence[ModelRef]:
        """Return the versions that detectors use for frames that ask for none; empty when they cannot be known now."""
        ...

    async def takes_prompt(self, model: ModelRef) -> bool | None:
        """Return whether the version takes a text; None when it cannot be known now."""
        ...


class AnyModel:
    """Knows no versions: the detector that loads one reports that it is not there."""

    async def versions(self) -> Sequence[ModelRef] | None:
        """Return None."""
        return None

    async def active(self) -> Sequence[ModelRef]:
        """Return none."""
        return ()

    async def takes_prompt(self, model: ModelRef) -> bool | None:
        """Return None."""
        del model
        return None


class Detectors(Protocol):
    """Knows the detectors that work now."""

    async def count(self) -> int | None:
        """Return how many they are; None when this cannot be known now."""
        ...


class UnknownDetectors:
    """Knows of no detectors."""

    async def count(self) -> int | None:
        """Return None."""
        return None
