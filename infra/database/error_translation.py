"""Translates errors of PostgreSQL: try again, a person must act, this row is wrong, or the cause is unknown."""

from __future__ import annotations

import re
from typing import ClassVar

import asyncpg

from infra.errors import DatabaseUnavailableError, RecordError, RefusedError, TooSlowError
from schemas.errors import StandgaleError


class RowRefusedError(RecordError):
    """The database cannot store a value, now and always; the text names table and field if they are known."""

    code: ClassVar[str] = "ROW_REFUSED"


class WriteRefusedError(StandgaleError):
    """A constraint or trigger of the database refuses to write, because of the row or of a change in the database.

    Only writing another row shows which of them is the cause.
    """

    code: ClassVar[str] = "WRITE_REFUSED"


class DatabaseTooSlowError(DatabaseUnavailableError, TooSlowError):
    """The database did not finish a statement in time; with fewer rows at once it may."""

    code: ClassVar[str] = "DATABASE_TOO_SLOW"


# By SQLSTATE class (its first two characters), see the appendix "PostgreSQL Error Codes" of its manual.
_UNAVAILABLE_CLASSES = {
    "08": "the connection was lost",
    "53": "it is out of resources (connections, memory or disk)",
    "57": "it is shutting down or starting up",
    "58": "it had a system error",
    "40": "other transactions conflicted with this one",
}
_UNAVAILABLE_STATES = {
    "25006": "it is read-only, as after a fail-over",
    "25P03": "a transaction was idle for too long",
    "55P03": "a lock was not free in time",
}
_MIGRATE = "run: standgale migrate up"
_CREDENTIALS = (
    "correct user and password in STANDGALE_DATABASE__URL and restart (a file in STANDGALE_DATABASE__URL_FILE is read "
    "again without a restart), or set them back on the server"
)
# What is refused, and what a person must do about it.
_REFUSED_STATES = {
    "42501": ("the user lacks a privilege", "grant it again"),
    "42P01": ("a table is missing", _MIGRATE),
    "42703": ("a column is missing", _MIGRATE),
    "42P10": ("a primary or unique key is missing", "create it again, as the migrations did"),
    "3F000": ("the schema is missing", _MIGRATE),
    "3D000": ("the database does not exist", "create it, or correct STANDGALE_DATABASE__URL and restart"),
}
_REFUSED_CLASSES = {
    "28": ("it refuses user or password", _CREDENTIALS),
    "42": ("its tables are not as this version of Standgale needs them", _MIGRATE),
}
# A statement that is not SQL is a defect of the program that sent it.
_SYNTAX_ERROR = "42601"
_TIMED_OUT = "57014"
_ROW_CLASSES = {"22", "54"}

# PostgreSQL names the field of a failed COPY only in the context: COPY new_images, line 3, column metadata: "..."
_COPY_CONTEXT = re.compile(r"COPY (?P<table>\w+), line (?P<line>\d+), column (?P<column>\w+)")
_COPY_LINE = re.compile(r"^COPY ", re.MULTILINE)
_VALUE_MAX = 200


def translate(error: BaseException, where: str) -> StandgaleError | None:
    """Return the meaning of ``error`` from asyncpg or the system while using the database at ``where``, or None.

    ``where`` must not contain a secret.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return _unavailable(where, f"its tables were changed during the statement: {error}")
    if isinstance(error, asyncpg.InternalClientError):
        return _unavailable(where, f"the connection is in a state that is unknown to the client: {error}")
    if isinstance(error, asyncpg.PostgresError):
        return _by_state(error, where)
    if isinstance(error, asyncpg.DataError | OverflowError):
        return RowRefusedError(f"a value cannot be written to the database: {str(error)[:_VALUE_MAX]}")
    if isinstance(error, OSError | TimeoutError):
        return _unavailable(where, f"{error}" or "it did not respond in time")
    return None


def too_slow_error(where: str, limit_s: float) -> DatabaseTooSlowError:
    """Return the error for a statement that did not end within ``limit_s`` on an open connection."""
    return DatabaseTooSlowError(
        f"the database at {where} did not finish within database.command_timeout_s ({limit_s:g} s); it is tried again, "
        "with fewer records at once where there are several"
    )


def refused_login_error(where: str, error: BaseException) -> RefusedError:
    """Return the error for a server that requires a different login method than the url has."""
    return _refused(where, ("it refuses the login", _CREDENTIALS), f"{error}")


def _by_state(error: asyncpg.PostgresError, where: str) -> StandgaleError | None:
    state = error.sqlstate or ""
    if state == _SYNTAX_ERROR:
        return None
    if state == _TIMED_OUT:
        return DatabaseTooSlowError(
            f"the database at {where} stopped a statement ({state}: {error}); it is tried again"
        )
    why = _UNAVAILABLE_STATES.get(state) or _UNAVAILABLE_CLASSES.get(state[:2])
    if why is not None:
        return _unavailable(where, f"{why} ({state}: {error})")
    refused = _REFUSED_STATES.get(state) or _REFUSED_CLASSES.get(state[:2])
    if refused is not None:
        return _refused(where, refused, f"{state}: {error}")
    if state[:2] in _ROW_CLASSES and not _from_function(error):
        return RowRefusedError(f"the database refuses {_field(error)}: {error} ({state})")
    return WriteRefusedError(f"the database at {where} refuses to write {_field(error)}: {error} ({state})")


def _refused(where: str, refused: tuple[str, str], said: str) -> RefusedError:
    why, remedy = refused
    return RefusedError(f"the database at {where}: {why} ({said}); {remedy}; it is tried again without a restart")


def _unavailable(where: str, why: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(f"the database at {where} is not available: {why}; it is tried again")


def _from_function(error: asyncpg.PostgresError) -> bool:
    """Whether a function on the server, as of a trigger, raised ``error``: then the wrong value may be the function's.

    The context names the function, in the language of the server. That of a wrong value in a COPY names a line of COPY.
    """
    context = getattr(error, "context", None)
    return bool(context) and _COPY_LINE.search(str(context)) is None


def _field(error: asyncpg.PostgresError) -> str:
    # The stubs lack these attributes; the server sets them for constraints only.
    table, column, constraint = (getattr(error, f"{part}_name", None) for part in ("table", "column", "constraint"))
    context = _COPY_CONTEXT.search(getattr(error, "context", None) or "")
    if context is not None:
        table, column = table or context["table"], column or context["column"]
    name = ".".join(part for part in (table, column) if part) or "a value"
    return f"{name} (constraint {constraint})" if constraint else name
