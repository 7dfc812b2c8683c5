"""Readiness follows what puts and publishes come to; a probe alone never undoes a failure of real work at once."""

from __future__ import annotations

import logging

import pytest

from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError, SettingsError
from infra.health import Health
from ingest.gateway.readiness import Readiness

AWAY = BrokerUnavailableError("kafka-7.internal: not enough in-sync replicas")


class World:
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
def world() -> World:
    return World()


def test_it_is_ready_after_the_first_work_or_the_first_probe(world: World) -> None:
    assert world.reason == "starting"
    assert world.readiness.wants_probe()
    world.probe()
    assert world.reason is None
    other = World()
    other.work()
    assert other.reason is None


def test_failed_work_is_not_ready_at_once_and_a_success_ends_it(world: World) -> None:
    world.work()
    world.work(AWAY)
    assert world.reason == "BROKER_UNAVAILABLE"
    world.work()
    assert world.reason is None


def test_a_probe_does_not_undo_a_failure_before_it_was_quiet_for_long_enough(world: World) -> None:
    world.work(AWAY)
    world.now += 9
    world.probe()
    assert world.reason == "BROKER_UNAVAILABLE"
    world.now += 2
    # It began before the failure: it says nothing.
    world.probe(took_s=12)
    assert world.reason == "BROKER_UNAVAILABLE"
    world.probe()
    assert world.reason is None


def test_a_trial_that_fails_makes_the_quiet_time_longer(world: World) -> None:
    for quiet_s in (10, 20, 40):
        world.work(AWAY)
        world.now += quiet_s - 1
        world.probe()
        assert world.reason == "BROKER_UNAVAILABLE"
        world.now += 1
        world.probe()
        assert world.reason is None
    world.work()
    world.work(AWAY)
    world.now += 10
    world.probe()
    assert world.reason is None


def test_one_partition_that_fails_is_not_ready_though_the_others_succeed(world: World) -> None:
    world.work(lane=1)
    world.work(AWAY, lane=3)
    for _ in range(3):
        world.work(lane=1)
        assert world.reason == "BROKER_UNAVAILABLE"
    world.work(lane=3)
    assert world.reason is None


def test_a_record_s_own_fault_says_nothing_about_the_part(world: World) -> None:
    world.work()
    world.work(RecordTooLargeError("2 MB"))
    assert world.reason is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("no right to write"), "REFUSED"),
        (SettingsError("a password"), "INVALID_SETTING"),
        (OSError("no space left"), "UNAVAILABLE"),
        (TimeoutError(), "no answer in time"),
        (RuntimeError("a bug"), "UNEXPECTED_ERROR"),
    ],
)
def test_every_other_error_is_held_with_its_code(world: World, error: Exception, code: str) -> None:
    world.work(error)
    assert world.reason == code
    world.work()
    world.now += 11
    world.probe(error)
    assert world.reason == code
    world.probe()
    assert world.reason is None


def test_a_probe_that_fails_counts_less_than_work_that_succeeded_meanwhile(world: World) -> None:
    world.work()
    world.now += 3
    world.probe(TimeoutError(), took_s=5)
    assert world.reason is None
    world.probe(TimeoutError(), took_s=1)
    assert world.reason == "no answer in time"
    world.work(lane=5)
    assert world.reason is None


def test_probes_are_wanted_only_while_something_failed_or_nothing_comes(world: World) -> None:
    world.work()
    assert not world.readiness.wants_probe()
    world.work(AWAY, lane=2)
    assert world.readiness.wants_probe()
    world.work(lane=2)
    world.now += 9
    assert not world.readiness.wants_probe()
    world.now += 1
    assert world.readiness.wants_probe()


def test_an_outage_is_logged_once_per_reason_and_its_end_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        world.work(AWAY)
        world.work(lane=1)
    world.work(RefusedError("no right to write"))
    for _ in range(5):
        world.work(AWAY)
        world.now += 1_000
        world.probe()
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "broker does not work: kafka-7.internal: not enough in-sync replicas",
        "broker does not work: no right to write",
    ]
    world.work()
    assert caplog.messages[-1] == "broker works again"


def test_an_unexpected_error_is_logged_with_its_trace(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.work(RuntimeError("a bug"))
    assert caplog.records[0].exc_info is not None
