"""Reads the local times that drones write into subtitles, and puts them into a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timezone

_DATE_TIME = re.compile(
    r"(\d{4})[.:/-](\d{1,2})[.:/-](\d{1,2})[ T]{1,2}(\d{1,2}):(\d{2}):(\d{2})(?:[.,:](\d{1,6}))?(?:[.,](\d{3}))?",
    re.ASCII,
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def find_local_time(line: str, zone: timezone | None) -> datetime | None:
    """Return the time in ``line``, in ``zone`` (None: read as UTC); None where there is none that a calendar has.

    DJI writes milliseconds and microseconds as two groups: `15:01:58,531,716`.
    """
    match = _DATE_TIME.search(line)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, thousandth = match[7] or "", match[8] or ""
    micro = (fraction + thousandth if len(fraction) == 3 else fraction)[:6].ljust(6, "0")
    try:
        moment = datetime(year, month, day, hour, minute, second, int(micro), tzinfo=zone or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _EARLIEST else None
