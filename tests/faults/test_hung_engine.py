"""Checks that health reports an engine that hangs, and that its process can be ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession

from infra.deploy.ports import free_port
from tests.harnesses.model_versions import write_version
from tests.harnesses.worker_site import WorkerSite
from tests.paths import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.integration]

TIMEOUT_S = 60.0
SILENCE_S = 1.5
DRAIN_S = 1.0
# After the drain: cancelling, the time limit for the engine's thread, and the end of Python.
END_S = 15.0
# When the file exists, the engine never returns.
_HANGING = """
import pathlib, threading
from detectors.model.predict import Model

infer = Model.infer

def hang(self, tiles):
    if pathlib.Path({path!r}).exists():
        threading.Event().wait()
    return infer(self, tiles)

Model.infer = hang
"""


def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", "-m", "standgale", "detector"], env=environment)


async def health(port: int, kind: str) -> tuple[int, str]:
    try:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health/{kind}") as response:
            return response.status, (await response.json())["parts"]["detector"]
    except ClientConnectionError:
        return 0, "not there yet"


async def test_hung_engine_is_reported_in_health_and_process_can_be_ended(site: WorkerSite, tmp_path: Path) -> None:
    hang, patch, port = tmp_path / "hang", tmp_path / "hanging", free_port()
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(_HANGING.format(path=str(hang)))
    settings = {
        "DATA_DIR": str(tmp_path),
        "DETECTOR__MODEL": str(write_version(tmp_path / "made", "1.0.0", 1.0)),
        "DETECTOR__ENGINE": "onnxruntime",
        "DETECTOR__MEASURE_S": "0",
        "TELEMETRY__HEALTH_PORT": str(port),
        "TELEMETRY__SILENCE_S": str(SILENCE_S),
        "TELEMETRY__DRAIN_TIMEOUT_S": str(DRAIN_S),
    }
    paths = os.pathsep.join((str(patch), str(ROOT)))
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        **{f"STANDGALE_{name}": value for name, value in settings.items()},
    }
    worker = start(environment)
    try:
        frames = [await site.frame("drone", n) for n in range(30)]
        await site.publish(frames[0])
        await site.wait_for(site.detections, 1)
        assert (await health(port, "live"))[0] == (await health(port, "ready"))[0] == 200
        hang.touch()
        await site.publish(*frames[1:])
        deadline = time.monotonic() + TIMEOUT_S
        while (report := await health(port, "live"))[0] != 503:
            assert time.monotonic() < deadline, report
            await asyncio.sleep(0.1)
        assert "engine onnxruntime" in report[1]
        assert "has not finished a batch" in report[1]
        assert (await health(port, "ready"))[0] == 503
        worker.terminate()
        began = time.monotonic()
        assert await asyncio.to_thread(worker.wait, TIMEOUT_S) == 1
        assert time.monotonic() - began < DRAIN_S + END_S
        assert (len(await site.detections()), await site.dead_letters()) == (1, [])
        assert list((tmp_path / "detectors").glob("*.suspect")), "a frame that makes an engine hang must do so once"
        hang.unlink()
        worker = start(environment)
        await site.wait_for(site.detections, 30)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, TIMEOUT_S) == 0
    finally:
        worker.kill()
        worker.wait()
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id for frame in frames]
    assert await site.dead_letters() == []
