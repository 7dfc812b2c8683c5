"""Formats times as Standgale writes them: UTC, RFC 3339, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime

# All but "+00:00"; each frame needs several times as text.
_WITHOUT_OFFSET = 26


def utc_now() -> datetime:
    """Return the current time in UTC, with time zone."""
    return datetime.now(UTC)


def format_utc(moment: datetime) -> str:
    """Return ``moment`` as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``: always 27 characters, so that text order is time order.

    Raises ValueError for a moment without time zone: a guessed zone would give two ids to one frame.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give it one, for example by appending Z")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Not strftime: it writes the year 999 with three digits.
    return moment.isoformat(timespec="microseconds")[:_WITHOUT_OFFSET] + "Z"
