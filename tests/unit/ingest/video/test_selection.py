"""Checks which frames each mode of selection chooses."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.video.options import Selection
from ingest.video.selection import THUMBNAIL_PX, FrameSelector, Thumbnail


def chosen(selection: Selection, times_s: list[float], keys: frozenset[int] = frozenset()) -> list[int]:
    selector = FrameSelector(selection)
    return [
        number
        for number, time_s in enumerate(times_s)
        if selector.is_wanted(number, time_s, is_key=number in keys, thumbnail=lambda: grey(0))
    ]


def grey(value: int) -> Thumbnail:
    return np.full((THUMBNAIL_PX[1], THUMBNAIL_PX[0]), value, np.uint8)


def test_every_frame_each_nth_and_key_frames() -> None:
    times = [number / 10 for number in range(10)]
    assert chosen(Selection(), times) == list(range(10))
    assert chosen(Selection("nth", every=4), times) == [0, 4, 8]
    assert chosen(Selection("key"), times, frozenset({0, 7})) == [0, 7]


@pytest.mark.parametrize("rate", [25.0, 29.97, 59.94])
def test_a_rate_is_kept_on_average_at_any_rate_of_the_video(rate: float) -> None:
    times = [number / rate for number in range(round(rate * 60))]
    assert len(chosen(Selection("rate", per_second=2), times)) == 120


def test_a_rate_above_the_videos_chooses_every_frame() -> None:
    assert chosen(Selection("rate", per_second=100), [0, 0.1, 0.2]) == [0, 1, 2]


def test_a_rate_is_kept_with_gaps_and_bursts() -> None:
    assert chosen(Selection("rate", per_second=1), [0, 0.2, 5.1, 5.9, 6.0, 6.1]) == [0, 2, 4]


def test_a_rate_begins_anew_when_the_time_goes_far_back() -> None:
    assert chosen(Selection("rate", per_second=1), [100.0, 100.5, 0.0, 0.5, 1.0]) == [0, 2, 4]


def test_scenes_are_frames_that_differ_from_the_last_chosen_one() -> None:
    selector = FrameSelector(Selection("scene", change=0.1))
    pictures = [grey(50), grey(60), grey(70), grey(80), grey(80), grey(20)]
    found = [
        number
        for number, picture in enumerate(pictures)
        if selector.is_wanted(number, number, is_key=False, thumbnail=lambda picture=picture: picture)
    ]
    assert found == [0, 3, 5]


def test_a_change_in_one_corner_is_a_scene() -> None:
    selector = FrameSelector(Selection("scene", change=0.1))
    changed = grey(50)
    changed[:9, :16] = 100
    assert selector.is_wanted(0, 0, is_key=False, thumbnail=lambda: grey(50))
    assert selector.is_wanted(1, 1, is_key=False, thumbnail=lambda: changed)
