"""Checks capture times: of recordings, and of cameras whose clocks drift, jump or are read late."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from ingest.video.clock import LiveClock, RecordingClock
from ingest.video.counts import VideoCounts

START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def live(counts: VideoCounts, not_before: datetime | None = None) -> LiveClock:
    return LiveClock(START, "arrival", counts, tolerance_s=0.5, not_before=not_before)


def test_a_recording_has_the_same_times_at_each_reading() -> None:
    first, second = (RecordingClock(START, "option") for _ in range(2))
    times = [0.0, 1 / 3, 2 / 3, 3_600.04]
    assert [first.captured_at(each) for each in times] == [second.captured_at(each) for each in times]
    assert first.captured_at(3_600.08) == after(3_600.08)


def test_frames_with_equal_times_get_different_microseconds() -> None:
    clock = RecordingClock(START, "option")
    assert [clock.captured_at(0.0) for _ in range(3)] == [after(each / 1_000_000) for each in range(3)]


def test_a_clock_that_runs_slow_is_followed_and_no_time_goes_back() -> None:
    counts = VideoCounts()
    clock = live(counts)
    noise = random.Random(1)
    found = []
    errors_s = []
    # The camera loses 1 % and the network delays by up to 200 ms; an hour of one frame per second.
    for second in range(3_600):
        delay_s = noise.random() * 0.2
        found.append(clock.captured_at(second * 0.99, after(second + delay_s)))
        errors_s.append((found[-1] - after(second)).total_seconds())
    assert all(later > earlier for earlier, later in pairwise(found))
    assert max(map(abs, errors_s)) < 1.2
    assert counts.corrected > 10
    assert counts.time_jumps == 0


def test_frames_that_arrive_late_and_all_at_once_change_no_time() -> None:
    counts = VideoCounts()
    clock = live(counts)
    for number in range(100):
        moment = clock.captured_at(number * 0.04, after(number * 0.04 if number < 50 else 12.0))
        assert moment == after(round(number * 0.04, 6))
    assert counts.time_jumps == 0


def test_a_jump_of_the_streams_time_is_counted_and_arrival_counts() -> None:
    counts = VideoCounts()
    clock = LiveClock(after(-5_000), "arrival", counts, tolerance_s=0.5)
    clock.captured_at(5_000.0, after(0))
    assert clock.captured_at(0.04, after(0.04)) > after(0.03)
    assert counts.time_jumps == 1
    assert clock.captured_at(0.08, after(0.08)) == after(0.08)


def test_a_pause_of_the_camera_is_no_jump() -> None:
    counts = VideoCounts()
    clock = live(counts)
    clock.captured_at(0.0, after(0))
    assert clock.captured_at(60.0, after(60)) == after(60)
    assert counts.time_jumps == 0


def test_the_cameras_own_clock_is_followed_where_it_is_the_origin() -> None:
    clock = LiveClock(START, "rtcp", VideoCounts(), tolerance_s=0.5)
    assert clock.captured_at(1.0, after(3), after(1.25)) == after(1.25)
    assert clock.captured_at(1.04, after(3.04)) == after(1.29)


def test_reports_of_the_cameras_clock_that_differ_by_a_frame_make_no_step() -> None:
    clock = LiveClock(START, "rtcp", VideoCounts(), tolerance_s=0.5)
    found = [
        clock.captured_at(number / 15, after(number / 15), after(number / 15 + (1 / 15 if number > 17 else 0)))
        for number in range(150)
    ]
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(found)]
    assert max(steps) < 0.07
    # The new report is what counts in the end.
    assert found[-1] == after(150 / 15)


def test_a_cameras_clock_that_is_known_later_is_followed_without_a_jump() -> None:
    clock = live(VideoCounts())
    found = []
    # The arrivals are 0.6 s behind the camera's clock, which RTCP gives from the second second on.
    for number in range(2_000):
        time_s = number * 0.04
        camera_time = after(time_s - 0.6) if number > 25 else None
        found.append(clock.captured_at(time_s, after(time_s), camera_time))
    assert all(0.03 < (later - earlier).total_seconds() < 0.05 for earlier, later in pairwise(found))
    assert abs((found[-1] - after(1_999 * 0.04 - 0.6)).total_seconds()) < 0.03
    assert clock.origin == "rtcp"


def test_a_cameras_clock_that_was_never_set_is_not_followed() -> None:
    clock = live(VideoCounts())
    assert clock.captured_at(0.0, after(0), after(-86_400)) == after(0)
    assert clock.captured_at(0.04, after(0.04), after(-86_400)) == after(0.04)
    assert clock.origin == "arrival"


def test_times_after_a_reconnect_are_later_than_those_before() -> None:
    assert live(VideoCounts(), not_before=after(10)).captured_at(0.0, after(1)) == after(10.000001)
