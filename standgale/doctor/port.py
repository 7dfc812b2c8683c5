"""What a check is, and what it finds.

To add one, write a class with ``subject`` and ``look`` in a module of its own, and name it in :mod:`.checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.errors import StandgaleError

Level = Literal["ok", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "problem")
"""From good to bad; the place is the exit status."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. No secrets: it is printed."""

    level: Level
    what: str
    remedy: str = ""
    """What to do; empty when nothing needs to be done"""


def ok(what: str) -> Finding:
    """``what`` is as it should be."""
    return Finding("ok", what)


def warning(what: str, remedy: str) -> Finding:
    """``what`` works, but may be wrong, or will be."""
    return Finding("warning", what, remedy)


def problem(what: str, remedy: str) -> Finding:
    """``what`` does not work, or loses something."""
    return Finding("problem", what, remedy)


class DoesNotExistError(StandgaleError):
    """What a check is about does not exist yet, which is no fault by itself: it becomes a warning."""

    code = "NOTHING_THERE"


class Check(Protocol):
    """Looks at one subject."""

    @property
    def subject(self) -> str:
        """A word or two, for the table and for scripts."""
        ...

    async def look(self) -> Sequence[Finding]:
        """Look and tell. Changes nothing that lasts; what it raises becomes a finding; it is cancelled when late."""
        ...
