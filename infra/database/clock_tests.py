"""Writes conditions on times that rows note; they hold also after the clock of the database was set back.

A time that is farther ahead than any that is noted was noted before: who waited for it would wait for as long as the
clock was set back. The time of the statement is compared, because an index serves it.
"""

from __future__ import annotations

_NOW = "statement_timestamp()"
_TOLERANCE = "interval '1 min'"
"""How far ahead a time may be that was noted as the present one"""


def is_over(until: str, longest: str) -> str:
    """Return the condition that the time ``until`` (a column) has come; NULL where there is none.

    ``longest`` (an interval) is longer than any wait that is noted.
    """
    return f"({until} <= {_NOW} OR {is_ahead(until, longest)})"


def is_ahead(until: str, longest: str) -> str:
    """Return the condition that ``until`` is farther ahead than ``longest``, and so was noted by another clock."""
    return f"{until} > {_NOW} + {longest}"


def is_older(since: str, age: str) -> str:
    """Return the condition that the past time ``since`` (a column) is longer ago than ``age`` (an interval)."""
    return f"({since} < {_NOW} - {age} OR {is_ahead(since, _TOLERANCE)})"
