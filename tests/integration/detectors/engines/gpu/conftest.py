"""Imitates a machine with a GPU for the tests of TensorRT.

No GPU is needed: the driver is a stand-in compiled here, TensorRT a stand-in whose engines run on ONNX Runtime's CPU.
All of Standgale's side is real: the ctypes calls, the builder process, locks, files and the model store.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harnesses.gpu import compiled_driver, pretend_gpu


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture(autouse=True)
def gpu(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(driver, monkeypatch)
    monkeypatch.setenv("FAKE_TENSORRT_BUILDS", str(tmp_path / "builds"))
