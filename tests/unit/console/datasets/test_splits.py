"""Splits of data sets: no scene is in two, shares are met, and the result is the same every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from console.datasets.errors import DatasetOptionError
from console.datasets.splits import Scenes, Shares, divide, parse_shares, scene_of

DAY = datetime(2026, 5, 1, 23, 59, 50, tzinfo=UTC)
EIGHTY = parse_shares("80/10/10")


def scenes_of(devices: int, days: int, pictures: int = 5) -> Scenes:
    scenes = Scenes()
    for device in range(devices):
        for day in range(days):
            for _ in range(pictures):
                scenes.add(f"cam-{device}", DAY + timedelta(days=day), None)
    return scenes


def test_parse_shares_takes_one_to_three_numbers() -> None:
    assert parse_shares("100") == Shares(1.0, 0.0, 0.0)
    assert parse_shares("3/1") == Shares(0.75, 0.25, 0.0)
    assert list(parse_shares("8/0/2").wanted) == ["train", "test"]


@pytest.mark.parametrize("text", ["", "0", "0/0/0", "80/10/5/5", "-1/2", "a/b", "0.8/0.2", "80/", "99999", "٨/٢"])
def test_parse_shares_refuses_other_texts(text: str) -> None:
    with pytest.raises(DatasetOptionError, match="whole numbers"):
        parse_shares(text)


def test_divide_meets_shares_and_is_repeatable() -> None:
    scenes = scenes_of(10, 10)
    found = divide(scenes, EIGHTY)
    counts = {split: sum(name == split for name in found.values()) for split in ("train", "val", "test")}
    assert counts == {"train": 80, "val": 10, "test": 10}
    assert found == divide(scenes_of(10, 10), EIGHTY)
    assert found != divide(scenes, EIGHTY, seed=1)


@pytest.mark.parametrize("days", [3, 4, 7])
def test_divide_leaves_no_split_empty_when_there_are_enough_scenes(days: int) -> None:
    assert set(divide(scenes_of(1, days), EIGHTY).values()) == {"train", "val", "test"}


def test_divide_puts_a_single_scene_into_train() -> None:
    assert divide(scenes_of(1, 1), EIGHTY) == {scene_of("cam-0", DAY): "train"}


def test_flight_across_midnight_is_in_one_split() -> None:
    for seed in range(20):
        scenes = scenes_of(3, 6)
        scenes.add("cam-1", DAY, "flight-7")
        scenes.add("cam-1", DAY + timedelta(seconds=20), "flight-7")
        # A flight of another device has the same name.
        scenes.add("cam-2", DAY, "flight-7")
        found = divide(scenes, EIGHTY, seed=seed)
        assert found["cam-1", DAY.date()] == found["cam-1", DAY.date() + timedelta(days=1)]


def test_day_is_that_of_utc() -> None:
    moment = datetime.fromisoformat("2026-05-02T01:00:00+02:00")
    assert scene_of("cam-1", moment) == ("cam-1", DAY.date())


def test_known_scenes_stay_in_their_splits() -> None:
    before = divide(scenes_of(4, 5), EIGHTY)
    after = divide(scenes_of(4, 9), EIGHTY, known=before)
    assert {scene: after[scene] for scene in before} == before
    scenes = scenes_of(1, 3)
    scenes.add("cam-0", DAY, "flight")
    scenes.add("cam-0", DAY + timedelta(days=1), "flight")
    apart = {("cam-0", DAY.date()): "train", ("cam-0", DAY.date() + timedelta(days=1)): "val"}
    with pytest.raises(DatasetOptionError, match="belong to one flight now"):
        divide(scenes, EIGHTY, known=apart)
