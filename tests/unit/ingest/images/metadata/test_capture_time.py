"""Capture times: zones in all spellings and places, contradictions that are said, and clocks that were never set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.images.metadata.capture_time import parse_offset
from tests.photographs import SECONDS, capture, packet, photograph, texts

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
_EXIF_NS = "http://ns.adobe.com/exif/1.0/"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("+02:00", 120), ("-5:00", -300), ("+0200", 120), ("-0530", -330), ("+02", 120), ("+2", 120), ("+530", 330)),
        *(("Z", 0), ("z", 0), ("UTC", 0), ("GMT+2", 120), ("UTC+05:45", 345), (" -05:00 ", -300), ("+02:00:00", 120)),
    ],
)
def test_offsets_are_read_in_every_spelling(text: str, minutes: int) -> None:
    zone = parse_offset(text)
    assert zone is not None
    assert zone.utcoffset(None) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "text", ["+99:00", "+15:00", "-13:00", "somewhere", "02:00", "+120", "+5.5", "+02:99", "", "+"]
)
def test_other_text_is_no_offset(text: str) -> None:
    assert parse_offset(text) is None


@pytest.mark.parametrize(
    ("tags", "hour"),
    [
        ({0x9011: "-5:00"}, 17),
        ({0x9011: "+0200"}, 10),
        ({0x9010: "+02:00"}, 10),
        ({0x9012: "+02:00"}, 10),
        ({0x9011: "Z"}, 12),
        ({0x9003: "2026-01-31T12:00:00-05:00"}, 17),
        ({0x9003: "2026:01:31 12:00:00+0200", 0x9011: "+02:00"}, 10),
        ({0x9003: "2026:01:31 12:00:00 Z"}, 12),
        ({0x9011: "   :  ", 0x9012: "+02:00"}, 10),
    ],
)
def test_zone_may_be_in_any_offset_tag_or_in_the_text(tags: dict[int, str], hour: int) -> None:
    found = capture(photograph({**SECONDS, **tags}))
    assert found.captured_at == NOON.replace(hour=hour)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({0x9291: "5"}, NOON.replace(microsecond=500_000)),
        ({0x9291: "123 "}, NOON.replace(microsecond=123_000)),
        ({0x9291: "-394485"}, NOON),
        ({0x9003: "2026:01:31 12:00:00.25"}, NOON.replace(microsecond=250_000)),
        ({0x9003: "2026:01:31 12:00:00,25"}, NOON.replace(microsecond=250_000)),
        ({0x9003: "2026:01:31 01:00:00 PM"}, NOON.replace(hour=13)),
        ({0x9003: "2026:01:31 12:30:00 AM"}, NOON.replace(hour=0, minute=30)),
        ({0x9003: "2026-01-31 12:00:00"}, NOON),
        ({0x9003: "2026:1:31 12:00:00"}, NOON),
    ],
)
def test_parts_of_seconds_and_twelve_hour_clocks(tags: dict[int, str], moment: datetime) -> None:
    found = capture(photograph({**SECONDS, 0x9011: "+00:00", **tags}))
    assert found.captured_at == moment


def test_unreadable_offset_warns_with_what_was_assumed() -> None:
    found = capture(photograph({**SECONDS, 0x9011: "+99:00"}))
    assert found.captured_at == NOON
    assert "OffsetTimeOriginal is '+99:00'" in texts(found)
    assert "read as UTC" in texts(found)
    assert all("captured_at" in warning.fields for warning in found.warnings)


def test_time_without_any_zone_is_read_as_utc_and_warns() -> None:
    found = capture(photograph(SECONDS))
    assert found.captured_at == NOON
    assert "2026-01-31 12:00:00 has no time zone; it was read as UTC" in texts(found)


@pytest.mark.parametrize(
    ("satellite", "expected", "said"),
    [
        ((3.0, 59.0, 58.0), NOON.replace(hour=4), "read as UTC+08:00, by the GPS time"),
        ((12.0, 0.0, 1.0), NOON, ""),
        ((11.0, 52.0, 0.0), NOON, "none explains the GPS time"),
    ],
)
def test_time_without_zone_is_placed_by_the_gps_time(
    satellite: tuple[float, ...], expected: datetime, said: str
) -> None:
    found = capture(photograph(SECONDS, {7: satellite, 0x1D: "2026:01:31"}))
    assert found.captured_at == expected
    assert said in texts(found)
    assert bool(found.warnings) == bool(said)


def test_gps_time_without_a_date_is_on_the_day_that_a_zone_explains() -> None:
    found = capture(photograph(SECONDS, {7: (20.0, 0.0, 0.0)}))
    assert found.captured_at == NOON.replace(hour=20)
    assert "read as UTC-08:00, by the GPS time" in texts(found)
    late = capture(photograph({0x9003: "2026:01:31 01:00:00"}, {7: (23.0, 0.0, 0.0)}))
    assert late.captured_at == datetime(2026, 1, 30, 23, tzinfo=UTC)
    # Eleven hours behind or thirteen ahead: both exist.
    unclear = capture(photograph({0x9003: "2026:01:31 13:00:00"}, {7: (0.0, 0.0, 0.0)}))
    assert "read as UTC." in texts(unclear)


def test_gps_time_that_contradicts_the_offset_warns() -> None:
    found = capture(photograph({**SECONDS, 0x9011: "+02:00"}, {7: (12.0, 0.0, 0.0), 0x1D: "2026:01:31"}))
    assert found.captured_at == NOON.replace(hour=10)
    assert "but the GPS time in EXIF is 2026-01-31T12:00:00+00:00" in texts(found)


def test_contradicting_offset_tags_warn() -> None:
    found = capture(photograph({**SECONDS, 0x9011: "+02:00", 0x9012: "+03:00"}))
    assert found.captured_at == NOON.replace(hour=10)
    assert "but UTC+03:00 by OffsetTimeDigitized" in texts(found)


def test_offset_of_the_last_change_does_not_contradict() -> None:
    assert capture(photograph({**SECONDS, 0x9011: "+02:00", 0x9010: "+03:00"})).warnings == ()


def test_zone_of_the_same_time_in_xmp_is_used() -> None:
    xmp = packet(prefix="exif", uri=_EXIF_NS, attributes='exif:DateTimeOriginal="2026-01-31T12:00:00+05:30"')
    found = capture(photograph(SECONDS, xmp=xmp))
    assert found.captured_at == NOON.replace(hour=6, minute=30)
    assert found.warnings == ()


def test_time_of_xmp_is_used_where_exif_has_none_and_warns() -> None:
    xmp = packet(prefix="exif", uri=_EXIF_NS, attributes='exif:DateTimeOriginal="2026-01-31T12:00:00+05:30"')
    found = capture(photograph({0x9003: "2026:13:45 12:00:00"}, xmp=xmp))
    assert found.captured_at == NOON.replace(hour=6, minute=30)
    assert "'2026:13:45 12:00:00'" in texts(found)
    assert "exif:DateTimeOriginal of XMP was used" in texts(found)


def test_digitized_time_is_used_where_the_original_is_missing() -> None:
    found = capture(photograph({0x9004: "2026:01:31 12:00:00", 0x9012: "+02:00"}))
    assert found.captured_at == NOON.replace(hour=10)
    assert "DateTimeDigitized was used" in texts(found)


def test_gps_time_alone_is_a_capture_time() -> None:
    found = capture(photograph(gps={7: (4.0, 5.0, 6.0), 0x1D: "2026:01:31"}))
    assert found.captured_at == datetime(2026, 1, 31, 4, 5, 6, tzinfo=UTC)


def test_exposure_time_of_the_drone_goes_first() -> None:
    found = capture(photograph(SECONDS, xmp=packet('drone-dji:UTCAtExposure="2026-01-31T11:00:00.250000"')))
    assert found.captured_at == datetime(2026, 1, 31, 11, 0, 0, 250_000, tzinfo=UTC)
    assert found.warnings == ()


@pytest.mark.parametrize(
    "text", ["0000:00:00 00:00:00", "2026:13:45 12:00:00", "    :  :     :  :  ", "1904:01:01 00:00:00", "24"]
)
def test_capture_time_of_a_clock_never_set_is_unknown(text: str) -> None:
    assert capture(photograph({0x9003: text})).captured_at is None


def test_hour_24_warns_and_is_not_guessed() -> None:
    found = capture(photograph({0x9003: "2026:01:31 24:00:05"}))
    assert found.captured_at is None
    assert "'2026:01:31 24:00:05'" in texts(found)
