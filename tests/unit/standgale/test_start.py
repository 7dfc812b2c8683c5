"""Checks that Ctrl-C shows no traceback from the first import of the command line on."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator

import pytest

import infra.process.ending
import standgale.start


@pytest.fixture(autouse=True)
def former_handler() -> Iterator[None]:
    former = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_ends_the_process_before_anything_of_ours_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    class Watch:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "infra.process.ending":
                found.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr(infra.process, "ending", infra.process.ending)
    monkeypatch.setattr(standgale, "start", standgale.start)
    for name in ("standgale.start", "infra.process.ending"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Watch(), *sys.meta_path])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("standgale.start")
    assert found == [signal.SIG_DFL]


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.reload(standgale.start)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
