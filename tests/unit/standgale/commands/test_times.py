"""Times of the command line are UTC without a zone; what is none is refused by the name of its option."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.errors import SettingsError
from standgale.commands.times import parse_time


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-05-01", 0), ("2026-05-01T12:00:00", 12), ("2026-05-01T12:00:00+02:00", 10)]
)
def test_parse_time_gives_utc(text: str, hour: int) -> None:
    assert parse_time("--from", text) == datetime(2026, 5, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "0001-01-01T00:00:00+12:00", "x" * 5_000])
def test_parse_time_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--from is .*such as 2026-05-01T12:00:00"):
        parse_time("--from", text)


def test_parse_time_leaves_out_what_is_not_given() -> None:
    assert parse_time("--from", None) is None
