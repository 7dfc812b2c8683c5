"""Forked processes are like others: arguments, environment, output, signals and exit status."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from standgale.testing.waiting import until
from tests.faults.forked import ForkedProcess

pytestmark = [pytest.mark.integration, pytest.mark.faults]


def test_output_environment_arguments_and_exit_status_are_those_of_a_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {"STANDGALE_TOPICS_FILE": str(tmp_path / "gone.yaml"), "STANDGALE_DATA_DIR": str(tmp_path)}
    process = ForkedProcess(("topics", "check"), environment, log)
    assert process.wait(150) == process.poll() == 2
    assert "gone.yaml" in log.read_text()
    settings = ForkedProcess(("settings", "--help"), {}, log)
    assert settings.wait(60) == 0
    assert "Usage: standgale settings" in log.read_text()
    assert settings.pid != process.pid


async def test_service_is_stopped_killed_and_frozen_by_signals(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {**os.environ, "STANDGALE_DATA_DIR": str(tmp_path / "data"), "STANDGALE_TELEMETRY__HEALTH_PORT": "0"}
    killed, ended = (ForkedProcess(("sink", "lakefs"), environment, log) for _ in range(2))
    await until(lambda: log.exists() and log.read_text().count("listens on") >= 2, timeout_s=60)
    ended.send_signal(signal.SIGSTOP)
    ended.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        ended.wait(0.2)
    killed.kill()
    assert killed.wait(10) == -signal.SIGKILL
    ended.send_signal(signal.SIGCONT)
    assert ended.wait(60) == 0
    killed.kill()
