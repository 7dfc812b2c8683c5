"""The gateway's time when its clock is wrong, is set while it runs, or cannot be compared."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from infra.process.health import Health
from ingest.readiness.clock import GatewayClock

TRUE = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Harness:
    """True time passes; this machine's clock is ``error_s`` off, and the broker's is right."""

    def __init__(self, error_s: float = 0.0) -> None:
        self.passed_s = 0.0
        self.error_s = error_s
        self.part = Health().part("broker")
        self.part.set_ready()
        self.clock = GatewayClock(self.part, wall=self.wall, steady=lambda: 77.0 + self.passed_s)

    @property
    def true(self) -> datetime:
        return TRUE + timedelta(seconds=self.passed_s)

    def wall(self) -> datetime:
        return self.true + timedelta(seconds=self.error_s)

    def publish(self) -> None:
        self.clock.set_difference(-self.error_s)

    def off_s(self) -> float:
        return (self.clock.now() - self.true).total_seconds()


def test_gateway_clock_without_comparison_is_this_machines() -> None:
    harness = Harness(error_s=60)
    assert not harness.clock.compared
    assert harness.off_s() == 60
    harness.clock.set_difference(None)
    assert harness.clock.compared
    assert harness.off_s() == 60


@pytest.mark.parametrize("error_s", [-8 * 86_400, -6, 6, 7_200])
def test_a_wrong_clock_is_corrected_noted_and_measured(error_s: float) -> None:
    harness = Harness(error_s)
    harness.publish()
    assert harness.off_s() == 0
    harness.passed_s += 30
    assert harness.off_s() == 0
    direction = "behind" if error_s < 0 else "ahead of"
    expected = f"this machine's clock is {abs(error_s)} s {direction} the broker's; the broker's is used"
    assert harness.part.report().note == expected
    assert harness.part.report().ready
    assert REGISTRY.get_sample_value("standgale_clock_ahead_seconds", {"clock": "broker"}) == -error_s


def test_clock_difference_within_tolerance_is_ignored() -> None:
    harness = Harness(error_s=3)
    harness.publish()
    assert harness.off_s() == 3
    assert harness.part.report().note is None


def test_a_clock_that_is_set_between_two_publishes_changes_nothing() -> None:
    harness = Harness()
    harness.publish()
    harness.passed_s += 10
    harness.error_s = 7_200
    assert harness.off_s() == 0
    harness.publish()
    assert harness.off_s() == 0
    harness.error_s = 0
    assert harness.off_s() == 0


def test_latest_is_the_later_of_both_clocks() -> None:
    for error_s in (-86_400, 86_400):
        harness = Harness(error_s)
        harness.publish()
        assert harness.clock.latest() == max(harness.true, harness.wall())


def test_clock_check_warns_once_per_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    harness = Harness()
    for error_s in (0, 60, 60, 61, -60, -60, 0, 0):
        harness.error_s = error_s
        harness.publish()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert harness.part.report().note is None
