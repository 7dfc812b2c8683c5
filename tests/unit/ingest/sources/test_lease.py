"""Checks how long a process has a source: by its own clock, never longer than the database gives it."""

from __future__ import annotations

import pytest

from ingest.sources.errors import LeaseLostError
from ingest.sources.lease import Lease


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_lease_is_over_before_it_was_extended() -> None:
    lease = Lease("gate", 1, clock=Clock())
    with pytest.raises(LeaseLostError, match=r"source gate: its lease ended .*sources\.lease_s"):
        lease.require()


def test_a_lease_counts_from_when_the_database_was_asked_and_ends_a_little_earlier() -> None:
    clock = Clock()
    lease = Lease("gate", 1, clock=clock)
    clock.now_s = 103.0
    lease.extend(100.0, 10.0)
    assert lease.remaining_s() == pytest.approx(6.0)
    clock.now_s = 108.9
    lease.require()
    clock.now_s = 109.1
    with pytest.raises(LeaseLostError):
        lease.require()


def test_a_late_renewal_does_not_shorten_a_lease() -> None:
    clock = Clock()
    lease = Lease("gate", 1, clock=clock)
    lease.extend(100.0, 10.0)
    lease.extend(95.0, 10.0)
    assert lease.remaining_s() == pytest.approx(9.0)
    lease.end()
    assert lease.remaining_s() == 0.0
