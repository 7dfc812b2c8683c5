"""Checks what the contract of engines reports where it cannot compare."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from standgale.testing.engine import SPEC, EngineContract


def test_reference_without_onnxruntime_fails_and_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detectors.engines.cpu.onnxruntime", None)
    contract = EngineContract()
    with pytest.raises(pytest.fail.Exception, match="install the extra cpu of standgale"):
        contract._reference(tmp_path, SPEC, 1)
