"""Checks the environment in which multiprocessing children are started, and their signals; both are restored."""

from __future__ import annotations

import os
import signal

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
        assert {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise RuntimeError("no process could be started")
    assert os.environ.get("PYTHONSAFEPATH") == former
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
