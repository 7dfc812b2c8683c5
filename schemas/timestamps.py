"""Formats times as Standgale writes them: UTC, RFC 3339, microseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache

# All but "+00:00".
_WITHOUT_OFFSET = 26


def utc_now() -> datetime:
    """Return the current time in UTC, with time zone."""
    return datetime.now(UTC)


def in_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC. Raises ValueError for the first and the last day of the calendar.

    Their ends stand for "never" and "always" in databases, which give them back without a time zone.
    """
    try:
        found = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} cannot be written in UTC") from error
    if found.date() in (date.min, date.max):
        raise ValueError(f"{moment.isoformat()} is on the first or the last day of the calendar")
    return found


def format_utc(moment: datetime) -> str:
    """Return ``moment`` as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``: always 27 characters, so that text order is time order.

    Raises ValueError for a moment without time zone: a guessed zone would give two ids to one frame.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give it one, for example by appending Z")
    # Equal times of another zone may be an hour apart, where clocks are set back; in UTC they are the same.
    return _text(moment if moment.tzinfo is UTC else moment.astimezone(UTC))


# Each frame needs its two times in several places: id, event, headers, response.
@lru_cache(maxsize=256)
def _text(moment: datetime) -> str:
    # Not strftime: it writes the year 999 with three digits.
    return moment.isoformat(timespec="microseconds")[:_WITHOUT_OFFSET] + "Z"
