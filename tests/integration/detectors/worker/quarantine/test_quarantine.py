"""Checks that suspects are tried in a separate process until the result is known, and that it ends with its worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from detectors.errors import ModelLoadError
from detectors.model.loading import LoadRequest, load_model
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.quarantine.quarantine import Quarantine
from detectors.worker.quarantine.suspects import Suspects
from infra.errors import RecordError
from tests.harnesses.model_versions import write_version
from tests.harnesses.worker_site import WorkerSite, picture

MAX_PIXELS = 1_000_000


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[LoadedModel]:
    card = write_version(tmp_path / "made", "1.0.0", 1.0)
    model = load_model(LoadRequest(card, "onnxruntime", 1))
    loaded = LoadedModel(model, InferencePipeline(model, host_threads=1, max_pixels=MAX_PIXELS), card)
    yield loaded
    loaded.close()


async def test_suspect_without_successful_trial_stays_suspect(loaded: LoadedModel, tmp_path: Path) -> None:
    event_id, broken = uuid4(), uuid4()
    folder = tmp_path / "detectors"
    folder.mkdir()
    for each in (event_id, broken):
        (folder / f"{each}.suspect").touch()
    suspects = Suspects(folder)
    quarantine = Quarantine(suspects, LoadRequest(loaded.card, "onnxruntime", 1), MAX_PIXELS)
    site = WorkerSite(tmp_path)
    frame = await site.frame("drone", 1)
    without_card = replace(loaded, card=tmp_path / "missing.yaml")
    with pytest.raises(ModelLoadError):
        await quarantine.detect(event_id, without_card, frame, picture(50))
    assert event_id in suspects
    assert len((await quarantine.detect(event_id, loaded, frame, picture(50))).detections) == 1
    assert event_id not in suspects
    with pytest.raises(RecordError):
        await quarantine.detect(broken, loaded, frame, b"no picture")
    assert broken not in suspects
    assert multiprocessing.active_children() == [], "a process for trials holds a model"
    suspects.close()
    await site.broker.close()
    await site.store.close()


_PARENT = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from detectors.worker.quarantine.trial_child import end_with_parent
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
child = pool.submit(os.getpid).result()
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(child, number)
assert pool.submit(os.getpid).result() == child
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_trial_process_ends_with_its_worker_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    child, deadline = int(done.stdout), time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline, "an orphan would keep its model for ever"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that has ended, and that no process waits for, is only a name.
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
