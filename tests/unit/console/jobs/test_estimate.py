"""Estimates of when a job will be complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from console.jobs.estimate import Estimates

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_the_rest_of_a_job_takes_as_long_for_each_file_as_those_that_are_done() -> None:
    now = START + timedelta(seconds=20)
    assert Estimates().of_running(now, START, 4, 10) == now + timedelta(seconds=30)


def test_a_job_without_a_result_takes_a_second_for_each_file_by_the_first_guess() -> None:
    assert Estimates().of_running(START, START - timedelta(hours=1), 0, 10) == START + timedelta(seconds=10)


def test_a_job_that_began_after_the_present_is_due_now() -> None:
    """The clock of the database was set back."""
    assert Estimates().of_running(START, START + timedelta(days=1), 1, 2) == START
