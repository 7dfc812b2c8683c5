"""Checks what the end of a process for trials means: a crash, a signal from outside, or a time-out."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from detectors.errors import EngineCrashError, EngineHangError, EngineKilledError, InferenceError, TrialKilledError
from detectors.model.loading import LoadRequest
from detectors.worker.quarantine import trial_process
from detectors.worker.quarantine.quarantine import Quarantine, load_mark
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_child import FrameTrial
from detectors.worker.quarantine.trial_process import TrialProcess, is_crash
from infra.failure.verdicts import fails_by_type
from schemas.events import DetectOptions
from standgale.testing.graphs import write_model
from tests.harnesses.worker_site import picture


@pytest.fixture
def trial(tmp_path: Path) -> FrameTrial:
    request = LoadRequest(write_model(tmp_path / "model"), "onnxruntime", 1)
    return FrameTrial(request, "openvino", picture(10), DetectOptions(), None, 1_000_000)


def die(by: signal.Signals, _what: object) -> None:
    """End the process in which it runs."""
    os.kill(os.getpid(), by)


def hang(_what: object) -> None:
    time.sleep(60)


@pytest.mark.parametrize("by", [signal.SIGKILL])
async def test_trial_killed_from_outside_raises_engine_killed_error(
    trial: FrameTrial, by: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = TrialProcess()
    with monkeypatch.context() as patch:
        patch.setattr(trial_process, "run_detection", partial(die, by))
        with pytest.raises(EngineKilledError, match=by.name) as raised:
            await trials.detect(trial)
    assert not fails_by_type(raised.value)
    assert len((await trials.detect(trial)).detections) == 1


@pytest.mark.parametrize("by", [signal.SIGABRT])
async def test_trial_that_aborts_raises_engine_crash_error(
    trial: FrameTrial, by: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_process, "run_detection", partial(die, by))
    with pytest.raises(EngineCrashError, match=by.name) as raised:
        await TrialProcess().detect(trial)
    assert fails_by_type(raised.value)


async def test_trial_crash_during_model_load_raises_inference_error(
    trial: FrameTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_process, "run_preparation", partial(die, signal.SIGSEGV))
    with pytest.raises(InferenceError, match="SIGSEGV while it loaded the model") as raised:
        await TrialProcess().detect(trial)
    assert not fails_by_type(raised.value)


def test_is_crash_only_for_signals_caused_by_own_code() -> None:
    ended = {signal.Signals(number) for number in range(1, 16) if is_crash(-number)}
    assert ended == {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
    assert not any(is_crash(status) for status in (None, 0, 1, 139))


async def test_trial_over_time_limit_raises_engine_hang_error(
    trial: FrameTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_process, "run_detection", hang)
    with pytest.raises(EngineHangError, match=r"did not return within 0\.1 s"):
        await TrialProcess(limit_s=0.1).detect(trial)


async def test_suspect_model_stays_suspect_when_trial_is_killed(
    trial: FrameTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspects, card = Suspects(tmp_path / "detectors"), trial.request.card
    quarantine = Quarantine(suspects, trial.request, 1_000_000)
    (tmp_path / "detectors" / f"{load_mark(card)}.suspect").touch()
    quarantine.find_suspects()
    with monkeypatch.context() as patch:
        patch.setattr(trial_process, "run_load", partial(die, signal.SIGKILL))
        with pytest.raises(TrialKilledError, match="SIGKILL"):
            await quarantine.try_suspect_load(card, busy=True)
    assert load_mark(card) in suspects
    await quarantine.try_suspect_load(card, busy=True)
    assert load_mark(card) not in suspects
    await quarantine.close()
