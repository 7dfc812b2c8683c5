"""A process that runs an engine keeps freed memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
import cv2, numpy as np
from detectors.engines.host import configure_process
if {settled}:
    configure_process()
def tiles():
    for _ in range(20):
        under_way = [np.empty((2, 640, 640, 3), np.uint8) for _ in range(6)]
        for each in under_way:
            each.fill(1)
tiles()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
tiles()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, cv2.getNumThreads())
"""


def faults_and_threads(settled: bool) -> tuple[int, int]:
    """Page faults of fifty batches of tiles, and OpenCV's threads."""
    command = [sys.executable, "-c", _COUNT_FAULTS.format(settled=settled)]
    faults, threads = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(faults), int(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of glibc")
def test_tiles_reuse_memory_and_the_engine_has_the_cores() -> None:
    faults, threads = faults_and_threads(settled=True)
    assert faults < 100
    assert threads == 1
    assert faults_and_threads(settled=False)[0] > 10 * (faults + 1)


_MODELS_THEN_SIGNAL = """
import gc, os, signal
from detectors.model.loading import LoadRequest, load_model
models = [load_model(LoadRequest(None, "openvino", 1, "f32")) for _ in range(3)]
for model in models:
    model.close()
del model
while models:
    models.pop(0)
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("drained"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_that_had_several_models_still_hears_signals() -> None:
    done = subprocess.run([sys.executable, "-c", _MODELS_THEN_SIGNAL], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "drained\n")
