"""Readiness follows the outcome of puts and publishes; a probe alone never ends a failure of real work at once."""

from __future__ import annotations

import logging

import pytest

from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError, SettingsError
from infra.process.health import Health
from ingest.readiness.outcomes import Readiness

AWAY = BrokerUnavailableError("kafka-7.internal: not enough in-sync replicas")


class Harness:
    """One part, a clock, and work on it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.part = Health().part("broker")
        self.readiness = Readiness(self.part, quiet_s=10, idle_s=10, clock=lambda: self.now)

    def work(self, error: Exception | None = None, lane: int = 0) -> None:
        if error is None:
            with self.readiness.watch(lane):
                return
        with pytest.raises(type(error)), self.readiness.watch(lane):
            raise error

    def probe(self, error: Exception | None = None, took_s: float = 0.1) -> None:
        if error is None:
            self.readiness.probe_passed(took_s)
        else:
            self.readiness.probe_failed(error, took_s)

    @property
    def reason(self) -> str | None:
        return self.part.reason


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_gateway_readiness_after_first_work_or_first_probe(harness: Harness) -> None:
    assert harness.reason == "starting"
    assert harness.readiness.wants_probe()
    harness.probe()
    assert harness.reason is None
    other = Harness()
    other.work()
    assert other.reason is None


def test_failed_work_is_not_ready_at_once_and_a_success_ends_it(harness: Harness) -> None:
    harness.work()
    harness.work(AWAY)
    assert harness.reason == "BROKER_UNAVAILABLE"
    harness.work()
    assert harness.reason is None


def test_a_probe_does_not_undo_a_failure_before_it_was_quiet_for_long_enough(harness: Harness) -> None:
    harness.work(AWAY)
    harness.now += 9
    harness.probe()
    assert harness.reason == "BROKER_UNAVAILABLE"
    harness.now += 2
    # It began before the failure: it says nothing.
    harness.probe(took_s=12)
    assert harness.reason == "BROKER_UNAVAILABLE"
    harness.probe()
    assert harness.reason is None


def test_failure_of_unconfirmed_partition_doubles_the_quiet_time(harness: Harness) -> None:
    for quiet_s in (10, 20, 40):
        harness.work(AWAY)
        harness.now += quiet_s - 1
        harness.probe()
        assert harness.reason == "BROKER_UNAVAILABLE"
        harness.now += 1
        harness.probe()
        assert harness.reason is None
    harness.work()
    harness.work(AWAY)
    harness.now += 10
    harness.probe()
    assert harness.reason is None


def test_one_partition_that_fails_is_not_ready_though_the_others_succeed(harness: Harness) -> None:
    harness.work(lane=1)
    harness.work(AWAY, lane=3)
    for _ in range(3):
        harness.work(lane=1)
        assert harness.reason == "BROKER_UNAVAILABLE"
    harness.work(lane=3)
    assert harness.reason is None


def test_record_error_does_not_change_readiness(harness: Harness) -> None:
    harness.work()
    harness.work(RecordTooLargeError("2 MB"))
    assert harness.reason is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("no right to write"), "REFUSED"),
        (SettingsError("a password"), "INVALID_SETTING"),
        (OSError("no space left"), "UNAVAILABLE"),
        (TimeoutError(), "no response in time"),
        (RuntimeError("a defect"), "UNEXPECTED_ERROR"),
    ],
)
def test_every_other_error_is_held_with_its_code(harness: Harness, error: Exception, code: str) -> None:
    harness.work(error)
    assert harness.reason == code
    harness.work()
    harness.now += 11
    harness.probe(error)
    assert harness.reason == code
    harness.probe()
    assert harness.reason is None


def test_failed_probe_counts_less_than_later_successful_work(harness: Harness) -> None:
    harness.work()
    harness.now += 3
    harness.probe(TimeoutError(), took_s=5)
    assert harness.reason is None
    harness.probe(TimeoutError(), took_s=1)
    assert harness.reason == "no response in time"
    harness.work(lane=5)
    assert harness.reason is None


def test_probes_are_wanted_only_while_something_failed_or_nothing_comes(harness: Harness) -> None:
    harness.work()
    assert not harness.readiness.wants_probe()
    harness.work(AWAY, lane=2)
    assert harness.readiness.wants_probe()
    harness.work(lane=2)
    harness.now += 9
    assert not harness.readiness.wants_probe()
    harness.now += 1
    assert harness.readiness.wants_probe()


def test_an_outage_is_logged_once_per_reason_and_its_end_once(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        harness.work(AWAY)
        harness.work(lane=1)
    harness.work(RefusedError("no right to write"))
    for _ in range(5):
        harness.work(AWAY)
        harness.now += 1_000
        harness.probe()
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "broker does not work: kafka-7.internal: not enough in-sync replicas",
        "broker does not work: no right to write",
    ]
    harness.work()
    assert caplog.messages[-1] == "broker works again"


def test_an_unexpected_error_is_logged_with_its_trace(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    harness.work(RuntimeError("a defect"))
    assert caplog.records[0].exc_info is not None
