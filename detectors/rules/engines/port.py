"""Defines what runs the program of a rules file: an engine, and the limits within which it does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from schemas.errors import StandgaleError

DONE = "\ndone\n"
"""What a run writes at its end."""
Stop = Literal["time", "memory", "output"]


@dataclass(frozen=True, slots=True)
class RulesLimits:
    """Bounds one run of a program, and what a program may need to be loaded."""

    seconds: float = 0.3
    """Of wall time."""
    memory_bytes: int = 64 << 20
    output_bytes: int = 1 << 20


class RulesEngineError(StandgaleError):
    """No engine for rules can be used, or it failed; the rules are not the cause."""

    code: ClassVar[str] = "RULES_ENGINE_ERROR"


class RulesStoppedError(StandgaleError):
    """A program reached a limit and was stopped; ``output`` is what it had written until then."""

    code: ClassVar[str] = "RULES_STOPPED"

    def __init__(self, why: Stop, text: str, output: str = "") -> None:
        super().__init__(text)
        self.why = why
        self.output = output


@cache
def base_program() -> str:
    """Return the clauses of rulings.pl, which engines load before every program."""
    return Path(__file__).with_name("rulings.pl").read_text(encoding="utf-8")


class RulesProgram(Protocol):
    """A program that is loaded; one run at a time."""

    def run(self, frame: str) -> str:
        """Return what the program writes about ``frame``, a term that is read.

        Runs do not know each other. Raises RulesStoppedError at a limit, RulesEngineError when the engine failed.
        """
        ...

    def close(self) -> None:
        """Release what the program holds."""
        ...


class RulesEngine(Protocol):
    """Loads programs."""

    name: str
    """Of the engine, with its version."""

    def load(self, program: str, limits: RulesLimits) -> RulesProgram:
        """Load ``program``, clauses one in a line, behind those of rulings.pl. Raises as ``RulesProgram.run``."""
        ...

    def close(self) -> None:
        """Release what all programs share."""
        ...
