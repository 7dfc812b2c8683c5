"""The path of a frame in the archive follows from its device, capture time and content (C-S1-070, C-S1-071)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from schemas.archive_paths import archive_path

SHA256 = "a3f5" + "0" * 59 + "1"


def test_archive_path_has_device_date_time_and_four_digits() -> None:
    taken = datetime(2026, 1, 5, 1, 0, 1, 999_999, tzinfo=timezone(timedelta(hours=13)))
    assert archive_path("device-001", taken, SHA256, "image/jpeg") == "images/device-001/2026-01-04/12-00-01_a3f5.jpg"


def test_archive_path_with_more_digits_differs_for_frames_of_one_second() -> None:
    taken = datetime(2026, 1, 4, 12, tzinfo=timezone.utc)  # noqa: UP017 (beside a zone with an offset)
    path = archive_path("d", taken, SHA256, "image/tiff", digits=8)
    assert path == "images/d/2026-01-04/12-00-00_a3f50000.tif"
