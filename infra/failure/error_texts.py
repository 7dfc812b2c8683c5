"""Classifies errors: which are transient, their stable code, and their text without secrets."""

from __future__ import annotations

from infra.errors import TransientError
from infra.telemetry.logs import redact
from schemas.errors import StandgaleError

UNEXPECTED = "UNEXPECTED_ERROR"
"""The code of an error that Standgale does not define."""
LONGEST_TEXT = 4_000
"""The most characters of an error text; a dead letter has space for no more."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later without a change here.

    An OSError (connection, time limit, full disk) counts too: it is never caused by a record, and an adapter may have
    passed it on.
    """
    return isinstance(error, TransientError | OSError)


def error_code(error: BaseException) -> str:
    """Return the stable name of ``error`` for metrics, logs and dead letters; there is a limited number of them."""
    if isinstance(error, StandgaleError):
        return error.code
    return TransientError.code if is_transient(error) else UNEXPECTED


def error_text(error: BaseException) -> str:
    """Return the text of ``error`` for people, without known secrets and at most ``LONGEST_TEXT`` characters long."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 (an error of a plug-in or library may fail even here)
        text = f"its text cannot be made ({type(second).__name__})"
    if not isinstance(error, StandgaleError):
        text = f"{type(error).__name__}: {text}"
    return redact(text)[:LONGEST_TEXT]
