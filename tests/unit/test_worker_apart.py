"""A process for trials that is ended from outside says nothing about what was tried in it; one that crashes does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from detectors.errors import EngineCrashError, EngineHangError, EngineKilledError, TrialKilledError
from detectors.loading import LoadRequest
from detectors.worker.apart import Apart, Trial
from detectors.worker.guard import Guard, load_mark
from detectors.worker.suspects import Suspects
from infra.verdicts import fails_by_type
from schemas.events import DetectOptions
from tests.support_graphs import write_model
from tests.support_worker import PATIENCE_S, picture


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    request = LoadRequest(write_model(tmp_path / "model"), "onnxruntime", 1)
    return Trial(request, "openvino", picture(10), DetectOptions(), None, 1_000_000)


async def end_it(trials: Apart, how: signal.Signals) -> None:
    """Send ``how`` to the process of ``trials`` as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_S
    while (process := trials._process) is None or process.pid is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    os.kill(process.pid, how)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
async def test_a_trial_that_is_ended_from_outside_is_no_crash(trial: Trial, how: signal.Signals) -> None:
    trials = Apart()
    with pytest.raises(EngineKilledError, match=how.name) as raised:
        await asyncio.gather(trials.detect(trial), end_it(trials, how))
    assert not fails_by_type(raised.value)
    with pytest.raises(TrialKilledError, match=how.name):
        await asyncio.gather(trials.load(trial.request), end_it(trials, how))
    assert len((await trials.detect(trial)).detections) == 1


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
async def test_a_trial_that_ends_by_a_signal_of_its_own_is_a_crash(trial: Trial, how: signal.Signals) -> None:
    trials = Apart()
    with pytest.raises(EngineCrashError, match=how.name) as raised:
        await asyncio.gather(trials.detect(trial), end_it(trials, how))
    assert fails_by_type(raised.value)


async def test_a_trial_that_does_not_come_back_is_ended(trial: Trial) -> None:
    with pytest.raises(EngineHangError, match=r"did not come back within 0\.01 s"):
        await Apart(limit_s=0.01).detect(trial)


async def test_a_model_stays_a_suspect_while_its_trial_is_ended_from_outside(trial: Trial, tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "detectors")
    guard = Guard(suspects, trial.request, 1_000_000)
    mark = load_mark(trial.request.card)
    (tmp_path / "detectors" / f"{mark}.suspect").touch()
    guard.look()
    with pytest.raises(TrialKilledError):
        await asyncio.gather(guard.before_load(trial.request.card, busy=True), end_it(guard.apart, signal.SIGKILL))
    assert mark in suspects
    await guard.before_load(trial.request.card, busy=True)
    assert mark not in suspects
    await guard.close()
