"""Importing an engine sends nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

_CODE = """
import sys, threading
import detectors.engines.cpu.openvino
assert sys.modules.get("openvino_telemetry") is None
print([thread.name for thread in threading.enumerate()])
"""


def test_openvino_is_imported_without_its_usage_statistics(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _CODE], env=environment, check=False, timeout=60, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['MainThread']"), done.stderr
    assert list(tmp_path.iterdir()) == []
