"""What a fault of PostgreSQL means to Windhover: try again, correct a setting, or this row is at fault."""

from __future__ import annotations

import re
from typing import ClassVar

import asyncpg

from infra.errors import DatabaseUnavailableError, RecordError, SettingsError
from schemas.errors import WindhoverError


class RowRefusedError(RecordError):
    """The database refuses a value, now and always; the text names table and field where it tells."""

    code: ClassVar[str] = "ROW_REFUSED"


# By SQLSTATE class (its first two characters), see the appendix "PostgreSQL Error Codes" of its manual.
_UNAVAILABLE_CLASSES = {
    "08": "the connection was lost",
    "53": "it is out of resources (connections, memory or disk)",
    "57": "it is shutting down, starting up, or took too long",
    "58": "it had a fault of its own",
    "40": "other work was in the way",
}
_UNAVAILABLE_STATES = {
    "25006": "it is read-only, as after a fail-over",
    "25P03": "a transaction was idle for too long",
    "55P03": "a lock was not free in time",
    "3F000": "the schema is missing; run: windhover migrate up",
    "42P01": "a table is missing; run: windhover migrate up",
    "42703": "a column is missing; run: windhover migrate up",
}
_SETTING_CLASSES = {
    "28": "it refuses user or password",
    "3D": "the database does not exist",
}
_SETTING_STATES = {"42501": "the user lacks a privilege there"}
_ROW_CLASSES = {"22", "23", "54"}

# PostgreSQL tells the field of a bad COPY only in the context: COPY new_images, line 3, column metadata: "..."
_COPY_CONTEXT = re.compile(r"COPY (?P<table>\w+), line (?P<line>\d+), column (?P<column>\w+)")
_VALUE_MAX = 200


def translated(error: BaseException, where: str) -> WindhoverError | None:
    """What ``error``, raised by asyncpg or the system while using the database at ``where``, means; None: no fault.

    ``where`` must hold no secret.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.InternalClientError):
        return _unavailable(where, f"its tables were changed meanwhile: {error}")
    if isinstance(error, asyncpg.PostgresError):
        return _by_state(error, where)
    if isinstance(error, asyncpg.DataError | OverflowError):
        return RowRefusedError(f"a value cannot be written to the database: {str(error)[:_VALUE_MAX]}")
    if isinstance(error, OSError | TimeoutError):
        return _unavailable(where, f"{error}" or "it did not answer in time")
    return None


def _by_state(error: asyncpg.PostgresError, where: str) -> WindhoverError | None:
    state = error.sqlstate or ""
    why = _UNAVAILABLE_STATES.get(state) or _UNAVAILABLE_CLASSES.get(state[:2])
    if why is not None:
        return _unavailable(where, f"{why} ({state}: {error})")
    why = _SETTING_STATES.get(state) or _SETTING_CLASSES.get(state[:2])
    if why is not None:
        return SettingsError(f"the database at {where}: {why} ({state}: {error}); correct WINDHOVER_DATABASE__URL")
    if state[:2] in _ROW_CLASSES:
        return RowRefusedError(f"the database refuses {_field(error)}: {error} ({state})")
    return None


def _unavailable(where: str, why: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(f"the database at {where} is not available: {why}; it is tried again")


def _field(error: asyncpg.PostgresError) -> str:
    # The stubs do not know these attributes; the server fills them in for constraints only.
    table, column, constraint = (getattr(error, f"{part}_name", None) for part in ("table", "column", "constraint"))
    context = _COPY_CONTEXT.search(getattr(error, "context", None) or "")
    if context is not None:
        table, column = table or context["table"], column or context["column"]
    name = ".".join(part for part in (table, column) if part) or "a value"
    return f"{name} (constraint {constraint})" if constraint else name
