"""The limit of open files is raised for the connections of servers, or a warning names it."""

from __future__ import annotations

import resource

import pytest

from infra.process.open_files import release_open_files, reserve_open_files, why_too_few_open_files


class Limits:
    def __init__(self, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard

    def get(self, kind: int) -> tuple[int, int]:
        assert kind == resource.RLIMIT_NOFILE
        return self.soft, self.hard

    def set(self, kind: int, limits: tuple[int, int]) -> None:
        assert kind == resource.RLIMIT_NOFILE
        self.soft, self.hard = limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    limits = Limits(1_024, 524_288)
    monkeypatch.setattr("infra.process.open_files._reserved", {})
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return limits


def test_the_soft_limit_is_raised_to_what_all_servers_need(limits: Limits, caplog: pytest.LogCaptureFixture) -> None:
    assert reserve_open_files("gateway", 6_000) == 6_000
    assert reserve_open_files("health", 1_000) == 1_000
    assert limits.soft == 7_512
    assert limits.hard == 524_288
    assert caplog.messages == []


def test_a_limit_that_is_high_enough_is_left(limits: Limits) -> None:
    limits.soft = limits.hard = resource.RLIM_INFINITY
    assert reserve_open_files("gateway", 6_000) == 6_000
    assert limits.soft == resource.RLIM_INFINITY


def test_a_hard_limit_that_is_too_low_is_named_with_the_connections_that_fit(
    limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    limits.hard = 2_048
    release_open_files("gateway")
    assert reserve_open_files("gateway", 6_000) == 1_536
    assert limits.soft == 2_048
    assert "gateway may hold 1536 connections instead of 6000: this process may open 2048 files, and needs 6512" in (
        caplog.text
    )
    assert "http.max_connections" in caplog.text
    assert reserve_open_files("health", 6_000) == 768


def test_a_hard_limit_below_what_any_service_needs_is_named_with_the_remedy(limits: Limits) -> None:
    limits.soft = limits.hard = 24
    found = why_too_few_open_files()
    assert found is not None
    assert "may open 24 files (ulimit -n) and needs at least 128; raise the hard limit" in found


def test_a_soft_limit_below_what_any_service_needs_is_raised(limits: Limits) -> None:
    limits.soft = 24
    assert why_too_few_open_files() is None
    assert limits.soft == 128
    limits.soft = limits.hard = resource.RLIM_INFINITY
    assert why_too_few_open_files() is None
