"""Checks how many frames are counted as missing at constant, changing and irregular rates."""

from __future__ import annotations

import random

from ingest.video.gaps import GapCounter


def missing(times_s: list[float], stated_s: float | None = None) -> int:
    counter = GapCounter(stated_s)
    return sum(counter.missing_before(each) for each in times_s)


def steady(count: int, step_s: float = 0.04) -> list[float]:
    return [number * step_s for number in range(count)]


def test_frames_left_out_of_a_constant_rate_are_counted() -> None:
    times = [each for number, each in enumerate(steady(200)) if number not in {50, 51, 90, 150}]
    assert missing(times) == 4
    assert missing(times, 0.04) == 4


def test_a_tenth_that_is_lost_at_random_is_counted() -> None:
    lost = set(random.Random(2).sample(range(20, 1_000), 100))
    times = [each for number, each in enumerate(steady(1_000)) if number not in lost]
    assert 95 <= missing(times) <= 100


def test_a_camera_that_halves_its_rate_loses_few_frames_in_the_count() -> None:
    times = [*steady(100), *(4.0 + each for each in steady(200, 0.08))]
    assert missing(times) <= 20


def test_times_that_vary_are_no_gaps() -> None:
    noise = random.Random(1)
    assert missing([number * 0.04 + noise.random() * 0.02 for number in range(500)]) == 0


def test_pauses_and_times_that_go_back_are_no_missing_frames() -> None:
    assert missing([*steady(50), *(60 + each for each in steady(50)), *steady(50)]) == 0
