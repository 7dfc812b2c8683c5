"""Times are written in UTC, with one text for one moment."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from schemas.timestamps import format_utc


def test_both_hours_of_a_clock_that_is_set_back_have_their_own_text() -> None:
    """As Python compares them the two are equal, so nothing may be remembered for them."""
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    second = first.replace(fold=1)
    assert first == second
    assert format_utc(first) == "2026-10-25T00:30:00.000000Z"
    assert format_utc(second) == "2026-10-25T01:30:00.000000Z"


def test_same_moment_of_two_zones_has_one_text() -> None:
    moment = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)
    assert format_utc(moment) == format_utc(moment.astimezone(ZoneInfo("Asia/Tokyo"))) == "2026-05-01T12:00:00.000005Z"


def test_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        format_utc(datetime(2026, 5, 1))  # noqa: DTZ001 (what is refused)
