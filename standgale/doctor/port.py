"""Defines what a check is, and what it finds.

To add a check, write a class with ``subject`` and ``look`` in a new module, and add it to :mod:`.checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.errors import StandgaleError

Level = Literal["ok", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "problem")
"""From good to bad; the index is the exit status."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Describes one result of a check. It is printed, so it has no secrets."""

    level: Level
    what: str
    remedy: str = ""
    """What to do; empty when nothing needs to be done"""


def ok(what: str) -> Finding:
    """Make a finding that ``what`` is as it should be."""
    return Finding("ok", what)


def warning(what: str, remedy: str) -> Finding:
    """Make a finding that ``what`` works, but may be or become wrong."""
    return Finding("warning", what, remedy)


def problem(what: str, remedy: str) -> Finding:
    """Make a finding that ``what`` does not work, or loses data."""
    return Finding("problem", what, remedy)


class DoesNotExistError(StandgaleError):
    """Says that the subject of a check does not exist yet; it becomes a warning."""

    code = "NOTHING_THERE"


class Check(Protocol):
    """Checks one subject."""

    @property
    def subject(self) -> str:
        """One or two words, for the table and for scripts."""
        ...

    async def look(self) -> Sequence[Finding]:
        """Check and return findings. It changes nothing; an error becomes a finding; it is cancelled when late."""
        ...
