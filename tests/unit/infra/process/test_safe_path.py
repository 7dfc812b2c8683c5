"""Checks the environment in which multiprocessing children are started, and that it is restored."""

from __future__ import annotations

import os

import pytest

from infra.process.safe_path import children_with_safe_path


@pytest.mark.parametrize("former", [None, "", "yes"])
def test_children_with_safe_path_restores_the_variable(former: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if former is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", former)
    with pytest.raises(RuntimeError), children_with_safe_path():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        raise RuntimeError("no process could be started")
    assert os.environ.get("PYTHONSAFEPATH") == former
