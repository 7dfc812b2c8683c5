"""Collects what could not be read from a picture's metadata, or had to be assumed."""

from __future__ import annotations

from dataclasses import dataclass

MAX_WARNINGS = 32
_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class MetadataWarning:
    """Says in one sentence what is unknown or assumed."""

    text: str
    fields: frozenset[str]
    """The camera fields, or `captured_at`, that it concerns; empty: the metadata as a whole."""


class Warnings:
    """Collects warnings, each text once, and at most MAX_WARNINGS."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[str, MetadataWarning] = {}

    def add(self, text: str, *fields: str) -> None:
        """Add a sentence about ``fields``."""
        if len(self._found) < MAX_WARNINGS:
            self._found.setdefault(text, MetadataWarning(text, frozenset(fields)))

    def all(self) -> tuple[MetadataWarning, ...]:
        """Return them in the order in which they were added."""
        return tuple(self._found.values())


def shown(value: str) -> str:
    """Return ``value`` quoted for a sentence: short, and without characters that a terminal would obey."""
    return ascii(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…")
