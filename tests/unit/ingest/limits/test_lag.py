"""Back-pressure by the lag of the detectors (I9)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from infra.broker.port import TopicPartition
from ingest.limits.lag import DetectorsBehindError, LagLimits
from ingest.limits.settings import LimitsSettings
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class Site:
    """Holds limits and a lag that the test sets every two seconds."""

    def __init__(self, **settings: int) -> None:
        self.clock = Clock()
        self.limits = LagLimits(LimitsSettings(**settings), self.clock)

    def read(self, live: int = 0, backfill: int = 0, partition: int = 3) -> None:
        self.clock.now += 2.0
        self.limits.update(
            {
                TopicPartition(FRAMES_LIVE, partition): live,
                TopicPartition(FRAMES_BACKFILL, partition): backfill,
                TopicPartition(FRAMES_LIVE, 0): 0,
                TopicPartition(FRAMES_BACKFILL, 0): 0,
            }
        )

    def refuses(self, topic: str = FRAMES_LIVE, partition: int = 3) -> bool:
        try:
            self.limits.require(topic, partition)
        except DetectorsBehindError:
            return True
        return False


def test_only_the_partition_that_is_behind_is_refused() -> None:
    site = Site(max_lag_frames=100)
    site.read(live=99)
    assert not site.refuses()
    site.read(live=100)
    assert site.refuses()
    assert not site.refuses(partition=0)


def test_refusal_ends_well_below_the_limit_and_does_not_flap(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(max_lag_frames=100)
    caplog.set_level(logging.INFO)
    seen = []
    for lag in (100, 99, 101, 90, 98, 76, 75, 76, 99, 98):
        site.read(live=lag)
        seen.append(site.refuses())
    assert seen == [True] * 6 + [False] * 4
    about_live = [record for record in caplog.records if record.args and record.args[1] == FRAMES_LIVE]
    assert [record.levelname for record in about_live] == ["WARNING", "INFO"]


def test_backfill_stops_at_half_of_the_live_limit_and_at_its_own() -> None:
    site = Site(max_lag_frames=100, max_backfill_lag_frames=1_000)
    site.read(live=50)
    assert (site.refuses(FRAMES_BACKFILL), site.refuses()) == (True, False)
    site.read(live=37)
    assert not site.refuses(FRAMES_BACKFILL)
    site.read(backfill=1_000)
    assert (site.refuses(FRAMES_BACKFILL), site.refuses()) == (True, False)


def test_refusal_moves_from_the_live_lag_to_the_backfill_lag() -> None:
    site = Site(max_lag_frames=100, max_backfill_lag_frames=1_000)
    site.read(live=60, backfill=2_000)
    site.read(live=0, backfill=2_000)
    assert site.refuses(FRAMES_BACKFILL)
    with pytest.raises(DetectorsBehindError, match="max_backfill_lag_frames"):
        site.limits.require(FRAMES_BACKFILL, 3)


def test_retry_after_is_estimated_from_how_fast_the_lag_falls() -> None:
    site = Site(max_lag_frames=1_000)
    site.read(live=2_000)
    assert 30 <= _retry_after(site) <= 36
    site.read(live=1_900)
    # 1,150 frames more than at the end of the refusal, at 50 a second.
    assert 23 <= _retry_after(site) <= 28
    for _ in range(20):
        site.read(live=1_900)
    assert 30 <= _retry_after(site) <= 360


def test_lag_that_cannot_be_read_any_more_refuses_nothing() -> None:
    site = Site(max_lag_frames=10)
    site.read(live=10)
    assert site.refuses()
    site.clock.now += 60
    assert not site.refuses()
    assert site.limits.refusing() == 0


def test_lag_that_was_never_read_refuses_nothing() -> None:
    assert not Site(max_lag_frames=1).refuses()


def _retry_after(site: Site) -> int:
    with pytest.raises(DetectorsBehindError) as refused:
        site.limits.require(FRAMES_LIVE, 3)
    return int(refused.value.headers["Retry-After"])
