"""Classifies errors: which are transient, their stable code, and their text without secrets."""

from __future__ import annotations

from infra.errors import TransientError
from infra.telemetry.logs import redact
from schemas.errors import StandgaleError

UNEXPECTED = "UNEXPECTED_ERROR"
"""The code of an error that is none of Standgale's."""
LONGEST_TEXT = 4_000
"""How many characters of an error's text are kept; a dead letter takes no more."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later by itself.

    An OSError (connection, time-out, full disk) is always the world's fault and never a record's, so it counts too,
    wherever an adapter let one through.
    """
    return isinstance(error, TransientError | OSError)


def error_code(error: BaseException) -> str:
    """The stable, bounded name of ``error`` for metrics, logs and dead letters."""
    if isinstance(error, StandgaleError):
        return error.code
    return TransientError.code if is_transient(error) else UNEXPECTED


def error_text(error: BaseException) -> str:
    """``error`` for people: never a known secret, never longer than a dead letter takes."""
    text = str(error) if isinstance(error, StandgaleError) else f"{type(error).__name__}: {error}"
    return redact(text)[:LONGEST_TEXT]
