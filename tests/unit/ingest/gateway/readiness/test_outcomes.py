"""Readiness follows the outcome of puts and publishes; a probe alone never ends a failure of real work at once."""

from __future__ import annotations

import logging

import pytest

from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError, SettingsError
from infra.process.health import Health
from ingest.gateway.readiness.outcomes import Readiness

AWAY = BrokerUnavailableError("kafka-7.internal: not enough in-sync replicas")


class Bench:
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
def bench() -> Bench:
    return Bench()


def test_gateway_readiness_after_first_work_or_first_probe(bench: Bench) -> None:
    assert bench.reason == "starting"
    assert bench.readiness.wants_probe()
    bench.probe()
    assert bench.reason is None
    other = Bench()
    other.work()
    assert other.reason is None


def test_failed_work_is_not_ready_at_once_and_a_success_ends_it(bench: Bench) -> None:
    bench.work()
    bench.work(AWAY)
    assert bench.reason == "BROKER_UNAVAILABLE"
    bench.work()
    assert bench.reason is None


def test_a_probe_does_not_undo_a_failure_before_it_was_quiet_for_long_enough(bench: Bench) -> None:
    bench.work(AWAY)
    bench.now += 9
    bench.probe()
    assert bench.reason == "BROKER_UNAVAILABLE"
    bench.now += 2
    # It began before the failure: it says nothing.
    bench.probe(took_s=12)
    assert bench.reason == "BROKER_UNAVAILABLE"
    bench.probe()
    assert bench.reason is None


def test_failure_of_unconfirmed_partition_doubles_the_quiet_time(bench: Bench) -> None:
    for quiet_s in (10, 20, 40):
        bench.work(AWAY)
        bench.now += quiet_s - 1
        bench.probe()
        assert bench.reason == "BROKER_UNAVAILABLE"
        bench.now += 1
        bench.probe()
        assert bench.reason is None
    bench.work()
    bench.work(AWAY)
    bench.now += 10
    bench.probe()
    assert bench.reason is None


def test_one_partition_that_fails_is_not_ready_though_the_others_succeed(bench: Bench) -> None:
    bench.work(lane=1)
    bench.work(AWAY, lane=3)
    for _ in range(3):
        bench.work(lane=1)
        assert bench.reason == "BROKER_UNAVAILABLE"
    bench.work(lane=3)
    assert bench.reason is None


def test_record_error_does_not_change_readiness(bench: Bench) -> None:
    bench.work()
    bench.work(RecordTooLargeError("2 MB"))
    assert bench.reason is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("no right to write"), "REFUSED"),
        (SettingsError("a password"), "INVALID_SETTING"),
        (OSError("no space left"), "UNAVAILABLE"),
        (TimeoutError(), "no response in time"),
        (RuntimeError("a bug"), "UNEXPECTED_ERROR"),
    ],
)
def test_every_other_error_is_held_with_its_code(bench: Bench, error: Exception, code: str) -> None:
    bench.work(error)
    assert bench.reason == code
    bench.work()
    bench.now += 11
    bench.probe(error)
    assert bench.reason == code
    bench.probe()
    assert bench.reason is None


def test_failed_probe_counts_less_than_later_successful_work(bench: Bench) -> None:
    bench.work()
    bench.now += 3
    bench.probe(TimeoutError(), took_s=5)
    assert bench.reason is None
    bench.probe(TimeoutError(), took_s=1)
    assert bench.reason == "no response in time"
    bench.work(lane=5)
    assert bench.reason is None


def test_probes_are_wanted_only_while_something_failed_or_nothing_comes(bench: Bench) -> None:
    bench.work()
    assert not bench.readiness.wants_probe()
    bench.work(AWAY, lane=2)
    assert bench.readiness.wants_probe()
    bench.work(lane=2)
    bench.now += 9
    assert not bench.readiness.wants_probe()
    bench.now += 1
    assert bench.readiness.wants_probe()


def test_an_outage_is_logged_once_per_reason_and_its_end_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        bench.work(AWAY)
        bench.work(lane=1)
    bench.work(RefusedError("no right to write"))
    for _ in range(5):
        bench.work(AWAY)
        bench.now += 1_000
        bench.probe()
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "broker does not work: kafka-7.internal: not enough in-sync replicas",
        "broker does not work: no right to write",
    ]
    bench.work()
    assert caplog.messages[-1] == "broker works again"


def test_an_unexpected_error_is_logged_with_its_trace(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.work(RuntimeError("a bug"))
    assert caplog.records[0].exc_info is not None
