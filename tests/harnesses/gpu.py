"""Imitates a machine with a GPU by a fake CUDA driver, which it compiles, and a fake TensorRT."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detectors.engines.gpu import cuda
from tests.paths import ROOT

FAKES = ROOT / "tests" / "fakes"


def compiled_driver(folder: Path) -> Path:
    """Compile the fake driver into ``folder``; without a compiler skip the test, or fail it where CI is set."""
    compiler = shutil.which("cc")
    if compiler is None:
        reason = "no C compiler found; tests of the CUDA driver's calls need one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    made = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", made, FAKES / "libcuda.c"], check=True)
    return made


def pretend_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process, and those that it starts, find the fake driver and the fake TensorRT."""
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.syspath_prepend(str(FAKES))
    paths = [str(FAKES), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    for name in list(sys.modules):
        if name == "tensorrt" or name.startswith("detectors.engines.gpu.tensorrt"):
            monkeypatch.delitem(sys.modules, name)
