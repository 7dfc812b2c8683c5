"""Checks the limits of the process that inspects a model."""

from __future__ import annotations

import resource

import pytest

from detectors.model import inspect_process


def test_lower_limits_that_a_person_has_set_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {resource.RLIMIT_AS: (3, 4), resource.RLIMIT_CPU: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)}
    made: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "getrlimit", given.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", made.__setitem__)
    inspect_process._limit(resource.RLIMIT_AS, 10, 10)
    inspect_process._limit(resource.RLIMIT_CPU, 5, 6)
    assert made == {resource.RLIMIT_AS: (4, 4), resource.RLIMIT_CPU: (5, 6)}
