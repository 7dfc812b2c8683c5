"""Reads times from the command line; without a zone they are UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.errors import SettingsError
from infra.texts import shortened


def parse_time(option: str, text: str | None) -> datetime | None:
    """Return the time that ``option`` gives, in UTC; None where it is not given. Raises SettingsError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option} is {shortened(text)!r}; it takes a date, or date and time, such as 2026-05-01T12:00:00 (UTC) or "
            "2026-05-01T12:00:00+02:00"
        ) from None
