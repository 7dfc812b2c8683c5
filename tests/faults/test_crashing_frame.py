"""Checks that a frame which crashes the engine ends one worker, and then gets an event or a dead letter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from standgale.testing.waiting import until
from tests.faults.crashing_worker import MAGENTA_BGR
from tests.harnesses.worker_site import WorkerSite, picture
from tests.paths import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.integration]

# The engine also crashes in the process that tries a suspect frame.
_CRASHING_TRIAL = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    import ctypes
    import detectors.worker.quarantine.trial_child
    detectors.worker.quarantine.trial_child.run_detection = lambda trial: ctypes.string_at(0)
    detectors.worker.quarantine.trial_child.run_detection.__name__ = "run_detection"
"""


def worker(folder: Path, *more_paths: Path) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(map(str, (*more_paths, ROOT)))
    command = [sys.executable, "-m", "tests.faults.crashing_worker", str(folder)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, cwd=ROOT)


async def publish(site: WorkerSite) -> list[str]:
    """Publish four frames of one device, the second in magenta; return their ids."""
    frames = [await site.frame("drone", number) for number in range(4)]
    frames[1] = await site.frame("drone", 1, picture(50, MAGENTA_BGR))
    await site.publish(*frames)
    return [str(frame.frame_id) for frame in frames]


async def test_frame_that_crashes_one_engine_is_processed_in_trial_process(site: WorkerSite, tmp_path: Path) -> None:
    sent = await publish(site)
    assert worker(tmp_path).wait(60) == -signal.SIGSEGV
    second = worker(tmp_path)
    await site.wait_for(site.detections, len(sent))
    second.terminate()
    assert second.wait(30) == 0
    assert [str(event.frame_id) for event in await site.detections()] == sent
    assert await site.dead_letters() == []
    assert not list((tmp_path / "detectors").iterdir())


async def test_frame_that_crashes_every_engine_becomes_dead_letter_and_ends_one_worker(
    site: WorkerSite, tmp_path: Path
) -> None:
    sent = await publish(site)
    (tmp_path / "crashing").mkdir()
    (tmp_path / "crashing" / "sitecustomize.py").write_text(_CRASHING_TRIAL)
    assert worker(tmp_path).wait(60) == -signal.SIGSEGV
    suspects = {path.stem for path in (tmp_path / "detectors").iterdir()}
    second = worker(tmp_path, tmp_path / "crashing")
    await site.wait_for(site.dead_letters, 1)
    after = await site.frame("drone", 9)
    await site.publish(after)

    async def is_after_processed() -> bool:
        assert second.poll() is None
        return after.frame_id in {event.frame_id for event in await site.detections()}

    await until(is_after_processed, timeout_s=60)
    second.terminate()
    assert second.wait(30) == 0
    letters = {str(letter.frame_id): letter for letter in await site.dead_letters()}
    assert suspects
    assert {letter.reason for letter in letters.values()} == {"ENGINE_CRASHED"}
    assert sent[1] in letters
    processed = [str(event.frame_id) for event in await site.detections()]
    assert sorted([*processed, *letters]) == sorted([*sent, str(after.frame_id)])
