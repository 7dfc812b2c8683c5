"""The forecast: how long frames are kept, and when there is no room."""

from __future__ import annotations

import pytest

from sinks.retention.estimate import Arrivals, Forecast, forecast


def of(**changes: float | int | None) -> Forecast:
    given = {"stored": 0, "kept": 0, "free": 1_000, "max_bytes": 500, "retention_days": 90.0, "least_days": 1.0}
    return forecast(Arrivals(10.0, 6.0, 1.0), **(given | changes))  # type: ignore[arg-type]


def test_without_removal_the_disk_lasts_as_long_as_its_room() -> None:
    assert of().full_in_days == pytest.approx(100)
    assert of(free=None).full_in_days is None
    assert of(free=0).full_in_days == 0


def test_the_limit_is_reached_when_arrivals_fill_it_before_age_removes() -> None:
    found = of()
    assert found.limit_in_days == pytest.approx(50)
    # 3 a day of frames with detections are kept for 90 days; the rest of the room is for those without.
    assert (found.empty_days, found.rest_days) == (pytest.approx((500 - 270) / 6), 90)


def test_age_alone_governs_while_what_it_leaves_fits() -> None:
    found = of(max_bytes=2_000, free=10_000)
    assert found.limit_in_days == pytest.approx(2_000 - 9 * 90)
    assert (found.empty_days, found.rest_days) == (90, 90)


def test_frames_with_detections_are_removed_when_the_others_are_gone() -> None:
    found = of(max_bytes=100)
    assert (found.empty_days, found.rest_days) == (1, pytest.approx((100 - 6) / 3))


def test_kept_frames_fill_limit_or_disk_alone_in_the_end() -> None:
    assert of().stuck_in_days == pytest.approx(500)
    assert of(kept=500).stuck_in_days == 0
    assert of(free=100, stored=0).stuck_in_days == pytest.approx(100)


def test_limit_that_is_exceeded_is_reached_now_though_age_would_empty_the_store() -> None:
    # All that arrives is kept, so age removes none of it.
    found = forecast(
        Arrivals(9.0, 0.0, 9.0), stored=9, kept=0, free=1_000, max_bytes=1, retention_days=60.0, least_days=1.0
    )
    assert found.limit_in_days == 0
    assert found.empty_days is found.rest_days is None


def test_nothing_arrives_and_nothing_is_ever_full() -> None:
    found = forecast(
        Arrivals(0.0, 0.0, 0.0), stored=5, kept=0, free=10, max_bytes=50, retention_days=None, least_days=1.0
    )
    assert found.full_in_days is found.limit_in_days is found.stuck_in_days is None
