"""Checks that a model which crashes the engine when it is loaded ends one worker, and then is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detectors.settings import ModelStoreSettings
from detectors.store.open import open_model_store
from detectors.worker.rollout.activation import ActivationRequest, activate_model
from detectors.worker.rollout.models_topic import activation_record, read_models
from schemas.event_base import ModelRef
from schemas.model_events import WorkerAvailability
from tests.harnesses.model_versions import NAME, write_version
from tests.harnesses.worker_site import WorkerSite
from tests.paths import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.integration]

TIMEOUT_S = 60.0
# In every process, also the one that tries models.
_CRASHING_LOAD = """
import ctypes, detectors.model.loading
load = detectors.model.loading.load_model

def load_model(request):
    if request.card is not None and "2.0.0" in str(request.card):
        ctypes.string_at(0)
    return load(request)

detectors.model.loading.load_model = load_model
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = write_version(tmp_path / "made", "1.0.0", 1.0)
    (tmp_path / "crashing").mkdir()
    (tmp_path / "crashing" / "sitecustomize.py").write_text(_CRASHING_LOAD)
    settings = {
        "DATA_DIR": str(tmp_path),
        "DETECTOR__MODEL": str(own),
        "DETECTOR__ENGINE": "onnxruntime",
        "DETECTOR__MEASURE_S": "0",
        "DETECTOR__REPORT_INTERVAL_S": "1",
        "TELEMETRY__HEALTH_PORT": "0",
    }
    paths = os.pathsep.join((str(tmp_path / "crashing"), str(ROOT)))
    return {**os.environ, "PYTHONPATH": paths, **{f"STANDGALE_{name}": value for name, value in settings.items()}}


def worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "standgale", "detector", "--instance-id", "one"]
    return subprocess.Popen(command, env=environment)


async def wait_until_settled(site: WorkerSite, second: subprocess.Popen[bytes]) -> WorkerAvailability:
    """Return the report of the worker when it has a model and its activation is carried out."""
    reader = await site.broker.reader()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        reports = (await read_models(reader)).workers.values()
        if settled := [report for report in reports if report.settled]:
            await reader.close()
            return settled[0]
        assert second.poll() is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_model_that_crashes_when_loaded_is_refused_at_next_start(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    site = WorkerSite(tmp_path)
    store = open_model_store(ModelStoreSettings(), tmp_path)
    await store.publish(write_version(tmp_path / "made", "2.0.0", 0.8))
    await store.close()
    wanted = ModelRef(name=NAME, version="2.0.0")
    await site.publish_records(activation_record(activate_model(ActivationRequest("default"), None, wanted, None)))
    first = worker(environment)
    assert await asyncio.to_thread(first.wait, TIMEOUT_S) == -signal.SIGSEGV
    second = worker(environment)
    report = await wait_until_settled(site, second)
    assert {(one.model.version, one.state, one.serving) for one in report.models} == {
        ("1.0.0", "enabled", True),
        ("2.0.0", "warning", False),
    }
    assert "crashes the engine when it is loaded" in next(one.detail or "" for one in report.models if not one.serving)
    frame = await site.frame("drone", 1)
    await site.publish(frame)
    await site.wait_for(site.detections, 1)
    second.terminate()
    assert await asyncio.to_thread(second.wait, TIMEOUT_S) == 0
    await site.broker.close()
    await site.store.close()
